{{- define "kith.fullname" -}}
{{- $default := .Release.Name -}}
{{- if not (contains .Chart.Name .Release.Name) }}{{ $default = printf "%s-%s" .Release.Name .Chart.Name }}{{ end -}}
{{- .Values.fullnameOverride | default $default | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "kith.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels of everything; those of the pods are fewer, so that selectors never change. */}}
{{- define "kith.labels" -}}
app.kubernetes.io/part-of: {{ .Release.Name }}
{{- end -}}

{{/* Each user's URL of each server of NATS; its password comes from the environment. Of (list $ user). */}}
{{- define "kith.nats.env" -}}
{{- $ := index . 0 -}}
{{- $user := index . 1 -}}
{{- $values := $.Values -}}
{{- if $values.nats.enabled -}}
{{- $name := $values.nats.fullnameOverride | default (printf "%s-nats" $.Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- $tls := $values.nats.tls.secretName -}}
{{- if and $tls (not $values.tls.secretName) -}}
{{- fail "nats.tls.secretName needs tls.secretName, by which nodes know the servers and are known to them" -}}
{{- end -}}
{{- $domain := ternary (printf "%s.%s.svc" $name $.Release.Namespace) $name (ne $tls "") -}}
{{- $urls := list -}}
{{- $monitors := list -}}
{{- range $i := until (int $values.nats.replicas) -}}
{{- $urls = append $urls (printf "%s://%s:$(NATS_PASSWORD)@%s-%d.%s:4222" (ternary "tls" "nats" (ne $tls "")) $user $name $i $domain) -}}
{{- $monitors = append $monitors (printf "http://%s-%d.%s:8222" $name $i $name) -}}
{{- end -}}
- name: NATS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $values.nats.auth.existingSecret | default (printf "%s-passwords" $name) }}
      key: {{ $user }}
- name: KITH_NATS_URL
  value: {{ join "," $urls }}
- name: KITH_NATS_MONITOR_URL
  value: {{ join "," $monitors }}
- name: KITH_NATS_REPLICAS
  value: {{ $values.nats.replicas | quote }}
{{- else -}}
{{- $external := $values.externalNats -}}
- name: KITH_NATS_URL
  value: {{ required "nats.enabled is false: externalNats.urls must say where NATS is" (join "," $external.urls) }}
{{- with $external.monitorUrls }}
- name: KITH_NATS_MONITOR_URL
  value: {{ join "," . }}
{{- end }}
- name: KITH_NATS_REPLICAS
  value: {{ $external.replicas | quote }}
{{- if $external.credentials.secretName }}
- name: KITH_NATS_CREDENTIALS
  value: /etc/kith/nats/{{ $external.credentials.key }}
{{- end }}
{{- if $external.allowUnsynced }}
- name: KITH_NATS_ALLOW_UNSYNCED
  value: "true"
{{- end }}
{{- end -}}
{{- end -}}

{{/* What routers and shard nodes have in common. Of (list $ part-of-values). */}}
{{- define "kith.common.env" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
- name: KITH_NODE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: KITH_CLUSTER
  value: {{ $.Values.global.cluster }}
{{- if eq $.Values.zone.source "node" }}
# The zone is the label of the machine, which the service account may get.
- name: KITH_KUBERNETES_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- else if eq $.Values.zone.source "podLabel" }}
# Kubernetes 1.35 and later copy the machine's zone to the pod; where it is empty all count as one zone.
- name: KITH_ZONE
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['topology.kubernetes.io/zone']
{{- end }}
# Probes know no TLS, and this port has nothing but health.
- name: KITH_HEALTH_HOST
  value: 0.0.0.0
- name: KITH_HEALTH_PORT
  value: "7720"
- name: KITH_DRAIN_TIMEOUT_MS
  value: {{ mul $own.drainTimeoutSeconds 1000 | quote }}
- name: NODE_OPTIONS
  value: --max-old-space-size={{ $own.heapMiB }}
{{- if $.Values.tls.secretName }}
- name: KITH_TLS_CERTIFICATE
  value: /etc/kith/tls/tls.crt
- name: KITH_TLS_KEY
  value: /etc/kith/tls/tls.key
- name: KITH_TLS_CA
  value: /etc/kith/tls/ca.crt
{{- if $.Values.tls.clientCertificates }}
- name: KITH_TLS_CLIENT_CA
  value: /etc/kith/tls/ca.crt
{{- end }}
{{- end }}
{{- if $.Values.link.secretName }}
- name: KITH_LINK_SECRET_FILE
  value: /etc/kith/link/cluster-secret
{{- end }}
{{- if $.Values.encryption.secretName }}
- name: KITH_ENCRYPTION_KEY_FILE
  value: /etc/kith/encryption/master-key
{{- end }}
{{- if $.Values.metrics.enabled }}
- name: OTEL_METRICS_EXPORTER
  value: prometheus
- name: OTEL_EXPORTER_PROMETHEUS_HOST
  value: 0.0.0.0
{{- end }}
{{- with $own.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kith.probes" -}}
# Alive as soon as the process runs, also while it waits for NATS.
startupProbe:
  grpc:
    port: 7720
    service: live
  failureThreshold: 60
  periodSeconds: 1
# Ready when each of its replicas has caught up with its log, and not any more when it is told to end.
readinessProbe:
  grpc:
    port: 7720
  periodSeconds: 5
  failureThreshold: 2
# Answered by the event loop alone, whatever NATS or the disk do.
livenessProbe:
  grpc:
    port: 7720
    service: live
  periodSeconds: 10
  failureThreshold: 6
{{- end -}}

{{- define "kith.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "kith.container.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Of (list $ part-of-values). */}}
{{- define "kith.volumeMounts" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
{{- if $.Values.tls.secretName }}
- name: tls
  mountPath: /etc/kith/tls
  readOnly: true
{{- end }}
{{- if $.Values.link.secretName }}
- name: link
  mountPath: /etc/kith/link
  readOnly: true
{{- end }}
{{- if $.Values.encryption.secretName }}
- name: encryption
  mountPath: /etc/kith/encryption
  readOnly: true
{{- end }}
{{- if and (not $.Values.nats.enabled) $.Values.externalNats.credentials.secretName }}
- name: nats-credentials
  mountPath: /etc/kith/nats
  readOnly: true
{{- end }}
{{- with $own.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kith.volumes" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
{{- with $.Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with $.Values.link.secretName }}
- name: link
  secret:
    secretName: {{ . }}
{{- end }}
{{- with $.Values.encryption.secretName }}
- name: encryption
  secret:
    secretName: {{ . }}
{{- end }}
{{- if and (not $.Values.nats.enabled) $.Values.externalNats.credentials.secretName }}
- name: nats-credentials
  secret:
    secretName: {{ $.Values.externalNats.credentials.secretName }}
{{- end }}
{{- with $own.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What stands in the pods of both: where they run. Of (list $ part-of-values). */}}
{{- define "kith.scheduling" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
