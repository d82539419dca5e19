{{/* What every pod of this chart has. Takes the context. */}}
{{- define "mlflow.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # Kubernetes would set MLFLOW_PORT and the like
securityContext: {{- include "common.podSecurity" 65532 | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
{{- end -}}

{{/* What every container of this chart has. Takes the context. */}}
{{- define "mlflow.container" -}}
image: {{ include "common.image" .Values.image }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "common.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Variables that reach the database and the bucket. Takes the context. */}}
{{- define "mlflow.stores" -}}
- name: MLFLOW_BACKEND_STORE_URI
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.secret }}, key: {{ .Values.database.key }}}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
{{- with .Values.artifacts }}
- {name: AWS_REGION, value: {{ .region | quote }}}
{{- with .endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- if .secret }}
{{- $secret := .secret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
MLflow's command line, whose words may be variables like $MLFLOW_BACKEND_STORE_URI: they are filled in by the process
itself, so that no password stands in the node's list of processes. Takes the words.
*/}}
{{- define "mlflow.command" -}}
{{- $program := "import os, sys; from mlflow.cli import cli; cli([os.path.expandvars(word) for word in sys.argv[1:]])" }}
{{- concat (list "python" "-c" $program) . | toJson }}
{{- end -}}

{{/* Host names that may ask. Takes the context; the service's names are exact, a port may follow. */}}
{{- define "mlflow.hosts" -}}
{{- $names := list "localhost" "127.0.0.1" "mlflow" }}
{{- $service := printf "mlflow.%s" .Release.Namespace }}
{{- $names = concat $names (list $service (printf "%s.svc" $service) (printf "%s.svc.cluster.local" $service)) }}
{{- if .Values.route.enabled }}
{{- $names = append $names .Values.route.host }}
{{- end }}
{{- $hosts := list }}
{{- range $names }}
{{- $hosts = concat $hosts (list . (printf "%s:*" .)) }}
{{- end }}
{{- concat $hosts .Values.access.hosts | join "," }}
{{- end -}}

{{/* Origins whose pages may change something: the user interface itself, by its route. */}}
{{- define "mlflow.origins" -}}
{{- $origins := list }}
{{- if .Values.route.enabled }}
{{- range list "http" "https" }}
{{- $origin := printf "%s://%s" . $.Values.route.host }}
{{- $origins = concat $origins (list $origin (printf "%s:*" $origin)) }}
{{- end }}
{{- end }}
{{- concat $origins .Values.access.origins | join "," }}
{{- end -}}
