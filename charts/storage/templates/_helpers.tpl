{{/* Refuses wrong combinations. */}}
{{- define "storage.checks" -}}
{{- $setup := .Values.setup }}
{{- if and $setup.databases.enabled (not .Values.mariadb.enabled) (eq $setup.databases.host "mariadb.storage") }}
{{- fail "mariadb.enabled is false, but setup.databases.host still names mariadb.storage. Give the address of your server there, or set setup.databases.enabled to false if its databases and users are made already." }}
{{- end }}
{{- if and $setup.buckets.enabled (not .Values.seaweedfs.enabled) (hasPrefix "http://seaweedfs.storage" $setup.buckets.endpoint) }}
{{- fail "seaweedfs.enabled is false, but setup.buckets.endpoint still names seaweedfs.storage. Give the address of your S3 there (empty for AWS), or set setup.buckets.enabled to false if its buckets are made already." }}
{{- end }}
{{- end -}}

{{/* A volume's claim, on its own and not a template of the StatefulSet, so that its size can grow.
Takes (dict "context" $ "component" NAME "persistence" VALUES). */}}
{{- define "storage.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .component }}
  namespace: {{ .context.Release.Namespace }}
  labels: {{- include "common.labels" . | nindent 4 }}
  {{- if .persistence.keep }}
  annotations: {helm.sh/resource-policy: keep}
  {{- end }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .persistence.size }}}}
{{- end -}}

{{/* What the three pods have in common. Takes (dict "context" $ "user" UID). */}}
{{- define "storage.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "common.podSecurity" .user | nindent 2 }}
{{- with .context.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .context.Values.scheduling }}
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
{{- end -}}

{{/* Metadata of a Job that runs after each installation and upgrade. Takes (dict "context" $ "name" NAME). */}}
{{- define "storage.setup.metadata" -}}
name: {{ .name }}
namespace: {{ .context.Release.Namespace }}
labels: {{- include "common.labels" (dict "context" .context "component" "setup") | nindent 2 }}
annotations:
  helm.sh/hook: post-install,post-upgrade
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* How often and how long such a Job tries. Takes the values `setup`. */}}
{{- define "storage.setup.tries" -}}
backoffLimit: 3
activeDeadlineSeconds: {{ add .timeoutSeconds 300 }} # the pull of the image comes on top
podFailurePolicy:
  rules: # 2 is a mistake that a person must mend: no second try
    - {action: FailJob, onExitCodes: {containerName: setup, operator: In, values: [2]}}
{{- end -}}
