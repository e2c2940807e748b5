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
app.kubernetes.io/instance: {{ .Release.Name | quote }}
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
app.kubernetes.io/instance: {{ .Release.Name | quote }}
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
{{- /* Set by the chart: a second one would contradict it, or the policies, roles and probes. */ -}}
{{- $set := dict
  "GOLIVE_OWN_NAMESPACE" "the namespace of the release"
  "GOLIVE_NAMESPACE" "`scope` and `namespaces`"
  "GOLIVE_LEASE_NAME" "fixed: the policy of the operator's records allows only this one"
  "GOLIVE_LISTEN" "fixed: the probes and the Service ask there"
  "GOLIVE_RECHECK_INTERVAL" "`settings.recheckInterval`"
  "GOLIVE_MAX_CONCURRENT_RECONCILES" "`settings.maxConcurrentReconciles`"
  "GOLIVE_REQUIRE_SECRET_OPT_IN" "`settings.requireSecretOptIn`"
  "GOLIVE_APP_TOKENS" "`settings.appTokens`"
  "GOLIVE_FLY_RAISED_LIMITS" "`settings.raisedLimits`"
  "GOLIVE_LOG" "`settings.log`"
  "GOLIVE_LOG_FORMAT" "`settings.logFormat`" -}}
{{- $seen := dict -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $set .name -}}
{{- fail (printf "extraEnv: %s cannot be set here; it is %s" .name (get $set .name)) -}}
{{- end -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "extraEnv: %s is set twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- /* By these the pods are selected, and they say whose pods they are. */ -}}
{{- range $key, $_ := merge (fromYaml (include "golive.selector" .)) (fromYaml (include "golive.labels" .)) -}}
{{- if hasKey $.Values.podLabels $key -}}
{{- fail (printf "podLabels: %s is set by the chart" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
