{{/* An image from {repository, tag, digest}; the digest counts where there is one. */}}
{{- define "common.image" -}}
{{- if .digest -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ required (printf "image %s: give a tag or a digest" .repository) .tag }}
{{- end -}}
{{- end -}}

{{/* securityContext of a pod. Takes the uid; the group is the same. */}}
{{- define "common.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* securityContext of every container: what the restricted Pod Security Standard asks for, and more. */}}
{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/*
An init container that waits for others. Takes (dict "image" IMAGE "for" LIST "seconds" N); the list
holds tcp://host:port and http://host:port/path. It says what it waits for, and fails in the end.
*/}}
{{- define "common.wait" -}}
name: wait
image: {{ include "common.image" .image }}
imagePullPolicy: {{ .image.pullPolicy | default "IfNotPresent" }}
args: [wait, --seconds, {{ .seconds | default 300 | quote }}, {{ range $i, $one := .for }}{{ if $i }}, {{ end }}{{ $one | quote }}{{ end }}]
resources:
  requests: {cpu: 10m, memory: 32Mi}
  limits: {memory: 128Mi}
securityContext: {{- include "common.containerSecurity" . | nindent 2 }}
{{- end -}}
