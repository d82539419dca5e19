{{/*
A host of the gateway for one service. Takes (dict "context" $ "component" NAME "route" ROUTE "service" NAME "port" N);
ROUTE is {enabled, host, gateway: {name, namespace}}.
*/}}
{{- define "common.route" -}}
{{- if .route.enabled }}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ .service }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "common.labels" (dict "context" .context "component" .component) | nindent 4 }}
spec:
  parentRefs:
    - {name: {{ .route.gateway.name }}, namespace: {{ .route.gateway.namespace }}}
  hostnames: [{{ required (printf "%s: route.enabled needs route.host" .component) .route.host | quote }}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      backendRefs: [{name: {{ .service }}, port: {{ .port }}}]
{{- end }}
{{- end -}}
