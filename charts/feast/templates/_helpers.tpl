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

{{/* Variables of their own. Takes the context. */}}
{{- define "feast.env" -}}
- {name: HOME, value: /tmp}
- {name: SLIPWAY_HOME, value: /tmp/slipway}
- {name: SLIPWAY_FEATURE_STORE, value: /app/feature_repo/stores/cluster}
- {name: SLIPWAY_MEMORY_LIMIT, value: {{ .Values.materialize.duckdbMemory | quote }}}
{{- range $name, $value := .Values.environment.more }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}
