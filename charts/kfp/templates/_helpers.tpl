{{/* Where a pod may run and how it pulls its images. Takes (dict "context" $ "component" NAME "replicas" N). */}}
{{- define "kfp.pod" -}}
{{- $values := .context.Values -}}
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int .replicas) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "common.selector" (dict "context" .context "component" .component) | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Image and pull policy of a container. */}}
{{- define "kfp.image" -}}
image: {{ include "common.image" . }}
imagePullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
{{- end -}}

{{/* A disruption budget, where there is more than one replica. Takes the same as kfp.pod, and "name". */}}
{{- define "kfp.budget" -}}
{{- if gt (int .replicas) 1 }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "common.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "common.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* A ServiceMonitor for one Service. Takes (dict "context" $ "component" NAME "name" SERVICE "port" NAME "scheme" S). */}}
{{- define "kfp.monitor" -}}
{{- if .context.Values.serviceMonitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ .name }}
  namespace: {{ .context.Release.Namespace }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
    {{- with .context.Values.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels: {{- include "common.selector" . | nindent 6 }}
  endpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ .context.Values.serviceMonitor.interval }}
      honorLabels: true # `namespace` of a metric is a run's, and no other
      {{- if eq .scheme "https" }}
      scheme: https
      tlsConfig:
        serverName: ml-pipeline
        ca: {secret: {name: {{ .context.Values.tls.existingSecret }}, key: ca.crt}}
      {{- end }}
{{- end }}
{{- end -}}

{{/* Hash of a file of this chart: a change of it restarts the pod that reads it. */}}
{{- define "kfp.checksum" -}}
checksum/config: {{ include (print .context.Template.BasePath .file) .context | sha256sum }}
{{- end -}}

{{- define "kfp.scheme" -}}
{{ ternary "https" "http" .Values.tls.enabled }}
{{- end -}}

{{/* What waits for the API server: over TLS its port has to do, as the wait knows no authority of ours. */}}
{{- define "kfp.waitForApi" -}}
{{- $api := ternary "tcp://ml-pipeline:8888" "http://ml-pipeline:8888/apis/v2beta1/healthz" .Values.tls.enabled -}}
{{- include "common.wait" (dict "image" .Values.wait.image "for" (list $api) "seconds" .Values.wait.seconds) -}}
{{- end -}}

{{/* Host and port of the object store. */}}
{{- define "kfp.objectStoreHost" -}}
{{ splitList ":" .Values.objectStore.endpoint | first }}
{{- end -}}
{{- define "kfp.objectStorePort" -}}
{{- $parts := splitList ":" .Values.objectStore.endpoint -}}
{{- if gt (len $parts) 1 }}{{ index $parts 1 }}{{ else }}{{ ternary "443" "80" .Values.objectStore.secure }}{{ end }}
{{- end -}}
{{- define "kfp.objectStoreUrl" -}}
{{ ternary "https" "http" .Values.objectStore.secure }}://{{ .Values.objectStore.endpoint }}
{{- end -}}

{{/*
The strategic merge patch that every pod of a run gets. Argo applies it first and KFP's own patch of the step after it, so a
pipeline that asks for something else gets that. Drivers get it too: their container is called `main` as well.
`envFrom` is replaced as a whole by such a patch, hence KFP's own ConfigMap in it.
*/}}
{{- define "kfp.podSpecPatch" -}}
{{- $steps := .Values.steps -}}
{{- $main := dict
  "name" "main"
  "env" (concat (list (dict "name" "HOME" "value" "/tmp")) ($steps.container.env | default list))
  "envFrom" (list
    (dict "configMapRef" (dict "name" "metadata-grpc-configmap" "optional" true))
    (dict "configMapRef" (dict "name" "slipway-steps" "optional" true)))
  "securityContext" (dict
    "allowPrivilegeEscalation" false
    "readOnlyRootFilesystem" $steps.readOnlyRootFilesystem
    "runAsNonRoot" true
    "runAsUser" ($steps.runAsUser | int64)
    "runAsGroup" ($steps.runAsUser | int64)
    "capabilities" (dict "drop" (list "ALL"))
    "seccompProfile" (dict "type" "RuntimeDefault"))
  "volumeMounts" (concat (list (dict "name" "tmp" "mountPath" "/tmp")) ($steps.container.volumeMounts | default list))
-}}
{{- if $steps.secret -}}
{{- $secret := dict "secretRef" (dict "name" $steps.secret "optional" true) -}}
{{- $_ := set $main "envFrom" (append $main.envFrom $secret) -}}
{{- end -}}
{{- $_ := mergeOverwrite $main (omit $steps.container "env" "volumeMounts") -}}
{{- $pod := dict
  "securityContext" (dict
    "runAsNonRoot" true
    "runAsUser" ($steps.runAsUser | int64)
    "runAsGroup" ($steps.runAsUser | int64)
    "fsGroup" ($steps.runAsUser | int64)
    "fsGroupChangePolicy" "OnRootMismatch"
    "seccompProfile" (dict "type" "RuntimeDefault"))
  "volumes" (concat (list (dict "name" "tmp" "emptyDir" (dict "sizeLimit" $steps.tmpSize))) ($steps.podSpecPatch.volumes | default list))
  "containers" (list $main)
-}}
{{- if .Values.stepAccounts -}}
{{- /* KFP gives the one label of a task to its template as these two inputs. */ -}}
{{- $key := "inputs.parameters['pod-metadata-label-key']" -}}
{{- $value := "inputs.parameters['pod-metadata-label-val']" -}}
{{- $account := printf "{{=%s == 'slipway/service-account' ? %s : workflow.serviceAccountName}}" $key $value -}}
{{- $_ := set $pod "serviceAccountName" $account -}}
{{- end -}}
{{- mergeOverwrite $pod (omit $steps.podSpecPatch "volumes") | toJson -}}
{{- end -}}
