{{- define "nats.fullname" -}}
{{- .Values.fullnameOverride | default (printf "%s-nats" .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "nats.secret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-passwords" (include "nats.fullname" .)) -}}
{{- end -}}

{{- define "nats.labels" -}}
app.kubernetes.io/name: {{ include "nats.fullname" . }}
app.kubernetes.io/part-of: {{ .Release.Name }}
{{- end -}}

{{/* What follows the name of a server in its address. Of TLS the whole name is needed: certificates have it. */}}
{{- define "nats.domain" -}}
{{ include "nats.fullname" . }}{{ if .Values.tls.secretName }}.{{ .Release.Namespace }}.svc{{ end }}
{{- end -}}

{{- define "nats.tls" -}}
tls {
  cert_file: /etc/nats-tls/tls.crt
  key_file: /etc/nats-tls/tls.key
  ca_file: /etc/nats-tls/ca.crt
{{- end -}}
