{{/* Name of the registered model. */}}
{{- define "model.name" -}}
{{- .Values.model | default .Release.Name -}}
{{- end -}}

{{/* The client's host. */}}
{{- define "model.host" -}}
{{- .Values.route.host | default (printf "%s.%s" (include "model.name" .) .Values.route.domain) -}}
{{- end -}}

{{/* Labels of what belongs to the model as a whole. */}}
{{- define "model.labels" -}}
{{ include "common.labels" (dict "context" . "component" "route") }}
{{- end -}}

{{/* Name of a version's InferenceService. Takes (dict "context" $ "version" VERSION). */}}
{{- define "model.version" -}}
{{ include "model.name" .context }}-v{{ .version }}
{{- end -}}

{{/*
Settings of a version as YAML: `server`, and over it the entry's own. Takes (dict "context" $ "entry" ENTRY).
*/}}
{{- define "model.server" -}}
{{- mergeOverwrite (deepCopy .context.Values.server) (deepCopy (.entry.server | default dict)) | toYaml -}}
{{- end -}}

{{/* The service that clients of a version ask. Takes the same. */}}
{{- define "model.service" -}}
{{- $server := include "model.server" . | fromYaml -}}
{{ include "model.version" (dict "context" .context "version" .entry.version) }}-
{{- ternary "transformer" "predictor" (eq $server.mode "split") -}}
{{- end -}}

{{/* Labels of one version, also on its pods: nothing here changes with the chart's version, or all pods would restart. */}}
{{- define "model.versionLabels" -}}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
app.kubernetes.io/part-of: slipway
app.kubernetes.io/version: {{ .version | quote }}
{{ include "common.selector" (dict "context" .context "component" "server") }}
{{- end -}}

{{/* Replicas of a component. Takes replicas. */}}
{{- define "model.replicas" -}}
minReplicas: {{ .min }}
maxReplicas: {{ .max }}
scaleMetric: {{ .metric }}
scaleTarget: {{ .target }}
{{- end -}}

{{/*
A component of an InferenceService: its pods. Takes (dict "context" $ "entry" ENTRY "server" SERVER "role" ROLE "component"
predictor|transformer).
*/}}
{{- define "model.component" -}}
{{- $name := include "model.version" (dict "context" .context "version" .entry.version) -}}
{{- $server := .server -}}
{{- $own := ternary $server.transformer $server (eq .component "transformer") -}}
{{- $features := and $server.featureStore.enabled (ne .role "predictor") -}}
{{- /* What the client sent is known where it arrives. */ -}}
{{- $payloads := and $server.payloadLog.enabled (not (and (eq $server.mode "split") (eq .component "predictor"))) -}}
{{ include "model.replicas" $own.replicas }}
deploymentStrategy:
  type: RollingUpdate
  rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
serviceAccountName: {{ $server.serviceAccountName }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ add $server.preStopSeconds $server.drainSeconds 5 }}
securityContext: {{- include "common.podSecurity" 65532 | nindent 2 }}
{{- with $server.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $server.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $server.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $server.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $server.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if gt (int $own.replicas.max) 1 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {app: isvc.{{ $name }}-{{ $.component }}}
  {{- end }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if $payloads }}
  - name: payloads
    {{- if $server.payloadLog.existingClaim }}
    persistentVolumeClaim: {claimName: {{ $server.payloadLog.existingClaim }}}
    {{- else }}
    emptyDir: {sizeLimit: {{ $server.payloadLog.sizeLimit }}}
    {{- end }}
  {{- end }}
containers:
  - name: kserve-container
    image: {{ include "common.image" $server.image }}
    imagePullPolicy: {{ $server.image.pullPolicy }}
    # What it says before it dies becomes part of the pod's status.
    terminationMessagePolicy: FallbackToLogsOnError
    command: [python, -m, serving]
    args:
      - --role
      - {{ .role }}
      - --model_name
      - {{ include "model.name" .context }}
      - --host
      - 0.0.0.0
      - --http_port
      - "8080"
      - --grpc_port
      - "8081"
      - --workers
      - {{ $server.workers | quote }}
      - --drain_timeout
      - {{ $server.drainSeconds | quote }}
      {{- if eq .role "transformer" }}
      - --predictor_host
      - {{ $name }}-predictor.{{ .context.Release.Namespace }}:80
      {{- end }}
      {{- if $features }}
      - --feature_store
      - {{ $server.featureStore.path }}
      - --clock
      - {{ $server.featureStore.clock }}
      {{- end }}
      {{- if $payloads }}
      - --payload_log
      - /payloads
      {{- end }}
      {{- range $server.args }}
      - {{ . | quote }}
      {{- end }}
    ports:
      # KServe makes the service's port 80 of the first one.
      - {name: http1, containerPort: 8080, protocol: TCP}
      - {name: h2c, containerPort: 8081, protocol: TCP}
    env:
      # KServe's storage initializer puts the package into /mnt/models.
      - {name: STORAGE_URI, value: {{ .entry.storageUri | quote }}}
      - {name: PROTOCOL, value: v2}
      {{- if $features }}
      - {name: SLIPWAY_FEAST_REGISTRY_TYPE, value: {{ $server.featureStore.registryType }}}
      {{- range list "SLIPWAY_FEAST_REGISTRY" "SLIPWAY_FEAST_REDIS" }}
      - name: {{ . }}
        valueFrom: {secretKeyRef: {name: {{ $server.featureStore.secret }}, key: {{ . }}}}
      {{- end }}
      {{- end }}
      {{- if $payloads }}
      - name: POD_NAME
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      {{- end }}
      {{- with $server.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    resources: {{- toYaml $own.resources | nindent 6 }}
    securityContext: {{- include "common.containerSecurity" .context | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if $payloads }}
      - {name: payloads, mountPath: /payloads, subPathExpr: $(POD_NAME)}
      {{- end }}
    startupProbe:
      httpGet: {path: /v2/health/live, port: http1}
      periodSeconds: 1
      timeoutSeconds: 1
      failureThreshold: {{ $server.startupSeconds }}
    readinessProbe:
      httpGet: {path: /v2/health/ready, port: http1}
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 3
    livenessProbe:
      httpGet: {path: /v2/health/live, port: http1}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    lifecycle:
      preStop: {sleep: {seconds: {{ $server.preStopSeconds }}}}
{{- end -}}

{{/* Wrong combinations, each with its fix. */}}
{{- define "model.check" -}}
{{- $total := 0 -}}
{{- $seen := dict -}}
{{- range .Values.versions -}}
  {{- $server := include "model.server" (dict "context" $ "entry" .) | fromYaml -}}
  {{- if hasKey $seen .version -}}
    {{- fail (printf "versions: version %s is there twice; remove one entry." .version) -}}
  {{- end -}}
  {{- $_ := set $seen .version (int .weight) -}}
  {{- $total = add $total (int .weight) -}}
  {{- $longest := printf "isvc.%s-transformer" (include "model.version" (dict "context" $ "version" .version)) -}}
  {{- if gt (len $longest) 63 -}}
    {{- fail (printf "versions: the label %s, which KServe makes, is longer than 63 characters; give the model a shorter name." $longest) -}}
  {{- end -}}
  {{- if regexMatch "^(mlflow|mlflow-artifacts|models|runs):" .storageUri -}}
    {{- fail (printf "versions: KServe cannot read %s; give the address of the package behind it, such as s3://mlflow/…/package." .storageUri) -}}
  {{- end -}}
  {{- if and (eq $server.mode "split") (not $server.featureStore.enabled) -}}
    {{- fail (printf "versions: version %s is split, and has no feature store for its transformer; set server.featureStore.enabled, or server.mode: combined." .version) -}}
  {{- end -}}
  {{- range $where, $replicas := dict "server" $server.replicas "server.transformer" $server.transformer.replicas -}}
    {{- if gt (int $replicas.min) (int $replicas.max) -}}
      {{- fail (printf "%s.replicas: min %d is more than max %d; raise max." $where (int $replicas.min) (int $replicas.max)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if not (has (int $total) (list 0 100)) -}}
  {{- fail (printf "versions: the weights add up to %d; make it 100, or 0 for a model that nobody asks yet." (int $total)) -}}
{{- end -}}
{{- with .Values.shadow.version -}}
  {{- if not (hasKey $seen .) -}}
    {{- fail (printf "shadow.version: %s is not one of `versions`; add it there with weight 0." .) -}}
  {{- end -}}
  {{- if get $seen . -}}
    {{- fail (printf "shadow.version: version %s gets requests already; give it weight 0, or leave shadow.version empty." .) -}}
  {{- end -}}
  {{- if not $.Values.route.enabled -}}
    {{- fail "shadow: there is no route to copy requests of; set route.enabled." -}}
  {{- end -}}
{{- end -}}
{{- end -}}
