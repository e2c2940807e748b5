{{- /* The name of what belongs to this release: `golive`, or `RELEASE-golive`. */ -}}
{{- define "golive.fullname" -}}
{{- if contains "golive" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-golive" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels that every object has beside its name and component; begins with a line break. */ -}}
{{- define "golive.chartLabels" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "golive.labels" -}}
app.kubernetes.io/name: golive
app.kubernetes.io/part-of: golive
{{- include "golive.chartLabels" . }}
{{- end -}}

{{- /* Labels by which the pods are selected: they never change. */ -}}
{{- define "golive.selector" -}}
app.kubernetes.io/name: golive
app.kubernetes.io/component: controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "golive.crdMetadata" -}}
labels:
  {{- include "golive.labels" . | nindent 2 }}
{{- if .Values.crds.keep }}
annotations:
  helm.sh/resource-policy: keep
  # The same for those who would prune a definition that is no more rendered: every Activation, and with it
  # every application, would be deleted with it.
  argocd.argoproj.io/sync-options: Prune=false,Delete=false
  kustomize.toolkit.fluxcd.io/prune: disabled
{{- end }}
{{- end -}}

{{- define "golive.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "golive.checked" -}}
{{- if and (eq .Values.scope "Namespaces") (not .Values.namespaces) -}}
{{- fail "scope: Namespaces needs at least one namespace in `namespaces`" -}}
{{- end -}}
{{- if and (eq .Values.scope "Cluster") .Values.namespaces -}}
{{- fail "`namespaces` has no effect with scope: Cluster; set scope to Namespaces or SelectedNamespaces" -}}
{{- end -}}
{{- end -}}
