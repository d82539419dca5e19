{{/* Names of the namespaces that are listed and not null, as {items: [...]}. */}}
{{- define "foundation.namespaces" -}}
items:
{{- range $name, $space := .Values.namespaces.items }}
{{- if kindIs "map" $space }}
  - {{ $name }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the Job reads: every password, and every secret that is made of them. */}}
{{- define "foundation.spec" -}}
{{- $database := .Values.database }}
{{- $s3 := .Values.s3 }}
{{- $store := .Values.onlineStore }}
{{- $listed := (include "foundation.namespaces" . | fromYaml).items }}
{{- $at := printf "%s:%v" $database.host $database.port }}
{{- $registry := printf "mysql+pymysql://feast:${mariadb-feast|url}@%s/feast" $at }}
{{- $redis := printf "%s:%v%s,password=${valkey}" $store.host $store.port (ternary ",ssl=True" "" $store.tls) }}
master: {namespace: slipway-system, name: slipway-passwords}
passwords:
{{- range list "root" "kfp" "mlflow" "feast" }}
  mariadb-{{ . }}: {given: {{ $database.given }}}
{{- end }}
  valkey: {given: {{ $store.given }}}
{{- range list "admin" "kfp" "steps" "mlflow" "models" }}
  s3-{{ . }}-access: {given: {{ $s3.given }}}
  s3-{{ . }}-secret: {given: {{ $s3.given }}}
{{- end }}
  grafana: {}
secrets:
{{- $wanting := 0 }}
{{- range list "storage" "kubeflow" "mlflow" "models" "monitoring" }}
{{- if has . $listed }}{{ $wanting = add1 $wanting }}{{ end }}
{{- end }}
{{- if not $wanting }} []{{ end }}
{{- if has "storage" $listed }}
  - namespace: storage
    name: mariadb
    keys:
      {{- range list "root" "kfp" "mlflow" "feast" }}
      {{ . }}-password: ${mariadb-{{ . }}}
      {{- end }}
  - namespace: storage
    name: valkey
    keys:
      password: ${valkey}
      {{- /* Enough for Feast and for models; no FLUSHALL, CONFIG, KEYS. INFO is for people who look after it. */}}
      users.acl: |
        user default on >${valkey} ~* resetchannels -@all +@read +@write +@connection +@transaction -@dangerous +info
  - namespace: storage
    name: s3
    keys:
      accesskey: ${s3-admin-access}
      secretkey: ${s3-admin-secret}
      identities.json: |
        {"identities": [
          {"name": "admin", "credentials": [{"accessKey": "${s3-admin-access}", "secretKey": "${s3-admin-secret}"}],
           "actions": ["Admin"]},
          {"name": "kfp", "credentials": [{"accessKey": "${s3-kfp-access}", "secretKey": "${s3-kfp-secret}"}],
           "actions": {{ include "foundation.actions" (list "mlpipeline") }}},
          {"name": "steps", "credentials": [{"accessKey": "${s3-steps-access}", "secretKey": "${s3-steps-secret}"}],
           "actions": {{ include "foundation.actions" (list "slipway" "mlflow" "payloads") }}},
          {"name": "mlflow", "credentials": [{"accessKey": "${s3-mlflow-access}", "secretKey": "${s3-mlflow-secret}"}],
           "actions": {{ include "foundation.actions" (list "mlflow") }}},
          {"name": "models", "credentials": [{"accessKey": "${s3-models-access}", "secretKey": "${s3-models-secret}"}],
           "actions": ["Read:mlflow", "List:mlflow"]}
        ]}
{{- end }}
{{- if has "kubeflow" $listed }}
  - namespace: kubeflow
    name: mysql-secret
    keys: {username: kfp, password: "${mariadb-kfp}"}
  - namespace: kubeflow
    name: mlpipeline-minio-artifact
    keys: {accesskey: "${s3-kfp-access}", secretkey: "${s3-kfp-secret}"}
  - namespace: kubeflow
    name: slipway-steps
    keys:
      AWS_ACCESS_KEY_ID: ${s3-steps-access}
      AWS_SECRET_ACCESS_KEY: ${s3-steps-secret}
      SLIPWAY_FEAST_REGISTRY: {{ $registry }}
      SLIPWAY_FEAST_REDIS: {{ $redis }}
{{- end }}
{{- if has "mlflow" $listed }}
  - namespace: mlflow
    name: mlflow
    keys:
      MLFLOW_BACKEND_STORE_URI: mysql+pymysql://mlflow:${mariadb-mlflow|url}@{{ $at }}/mlflow
      AWS_ACCESS_KEY_ID: ${s3-mlflow-access}
      AWS_SECRET_ACCESS_KEY: ${s3-mlflow-secret}
{{- end }}
{{- if has "models" $listed }}
  - namespace: models
    name: slipway-serving
    keys:
      SLIPWAY_FEAST_REGISTRY: {{ $registry }}
      SLIPWAY_FEAST_REDIS: {{ $redis }}
  - namespace: models
    name: slipway-models
    annotations:
      serving.kserve.io/s3-endpoint: {{ $s3.endpoint | default "https://s3.amazonaws.com" | trimPrefix "http://" | trimPrefix "https://" | quote }}
      serving.kserve.io/s3-usehttps: {{ ternary "0" "1" (hasPrefix "http://" $s3.endpoint) | quote }}
      serving.kserve.io/s3-region: {{ $s3.region | quote }}
      serving.kserve.io/s3-useanoncredential: "false"
    keys: {AWS_ACCESS_KEY_ID: "${s3-models-access}", AWS_SECRET_ACCESS_KEY: "${s3-models-secret}"}
{{- end }}
{{- if has "monitoring" $listed }}
  - namespace: monitoring
    name: grafana
    keys: {admin-user: {{ .Values.grafana.user | quote }}, admin-password: "${grafana}"}
{{- end }}
{{- end -}}

{{/* Everything in some buckets, and nothing outside: the words of SeaweedFS. Takes their names. */}}
{{- define "foundation.actions" -}}
{{- $all := list }}
{{- range . }}
{{- $all = concat $all (list (print "Read:" .) (print "Write:" .) (print "List:" .) (print "Tagging:" .)) }}
{{- end }}
{{- $all | toJson }}
{{- end -}}

{{/* One side of a rule as a list of peers. Takes (dict "side" LIST "network" VALUES). */}}
{{- define "foundation.peers" -}}
{{- range .side }}
{{- if .namespace }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .namespace }}}}
  {{- with .pods }}
  podSelector: {matchLabels: {{ toJson . }}}
  {{- end }}
{{- else }}
{{- range (ternary $.network.apiServer.cidrs .cidrs (.apiServer | default false)) }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
