{{/* What the pods of this chart have. Takes (dict "context" $ "scratch" SIZE). */}}
{{- define "feast.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: feast
restartPolicy: Never
securityContext: {{- include "common.podSecurity" 65532 | nindent 2 }}
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
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ .scratch }}}
{{- end -}}

{{/* What their containers have. Takes the context. */}}
{{- define "feast.container" -}}
image: {{ include "common.image" .Values.image }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "common.containerSecurity" . | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ .Values.environment.configMap }}}
  - secretRef: {name: {{ .Values.environment.secret }}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Variables of their own, each once: an upgrade stumbles over a name that is there twice. Takes the context. */}}
{{- define "feast.env" -}}
{{- $own := dict
  "HOME" "/tmp"
  "SLIPWAY_HOME" "/tmp/slipway"
  "SLIPWAY_FEATURE_STORE" "/app/feature_repo/stores/cluster"
  "SLIPWAY_MEMORY_LIMIT" .Values.materialize.duckdbMemory -}}
{{- range $name, $value := merge (dict) .Values.environment.more $own }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}
