{{/* A volume claim for the operator's `storage`. Takes {enabled, size, storageClass}. */}}
{{- define "monitoring.storage" -}}
{{- if .enabled }}
storage:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .size }}}}
{{- end }}
{{- end -}}

{{/* Where links lead. Takes (dict "page" {url, route} "inside" ADDRESS); the last is for port-forwards and other pods. */}}
{{- define "monitoring.url" -}}
{{- .page.url | default (ternary (printf "http://%s" .page.route.host) .inside .page.route.enabled) -}}
{{- end -}}

{{/* Version out of an image's tag, without the v. */}}
{{- define "monitoring.version" -}}
{{- if not (regexMatch "^v?[0-9]+\\.[0-9]+\\.[0-9]+" .image.tag) -}}
{{- fail (printf "%s.image.tag: the operator derives flags from the version, and %q is none; give one such as v3.15.0, and a digest beside it if you like." .what .image.tag) -}}
{{- end -}}
{{ regexFind "[0-9]+\\.[0-9]+\\.[0-9]+" .image.tag }}
{{- end -}}

{{/* A record of one objective: each model's own number, the default for every other model that is served. */}}
{{- define "monitoring.objective" -}}
{{- $own := list -}}
{{- range $model, $numbers := .objectives.models -}}
  {{- if hasKey $numbers $.key -}}
    {{- $own = append $own (printf "label_replace(vector(%v), \"model\", %q, \"\", \"\")" (get $numbers $.key) $model) -}}
  {{- end -}}
{{- end -}}
{{- $rest := printf "0 * max by (model) (slipway_model_info) + %v" (get .objectives.default .key) -}}
{{- if $own -}}
({{ join " or " $own }}) or on (model) ({{ $rest }})
{{- else -}}
{{ $rest }}
{{- end -}}
{{- end -}}
