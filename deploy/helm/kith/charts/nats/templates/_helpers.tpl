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
