{{- /* Generated from manifests/ by `make generate`. */ -}}
{{- define "golive.rules.cluster" -}}
# The objects themselves; patch is for the finalizer only, the spec is never written.
- apiGroups: [golive.dev]
  resources: [activations]
  verbs: [get, list, watch, patch]
- apiGroups: [golive.dev]
  resources: [activations/status]
  verbs: [patch]
- apiGroups: [golive.dev]
  resources: [activationapprovals]
  verbs: [list, watch]
# Says of each decision whether it counts, and why not.
- apiGroups: [golive.dev]
  resources: [activationapprovals/status]
  verbs: [patch]
# get: the Secrets that an Activation names, in its own namespace. patch: the finalizer on the
# Secret with the token. create, update, delete: the one Secret with the generated values.
# The policies of operator-policy.yaml hold the writes to exactly that.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update, patch, delete]
# get, list, watch: the ConfigMaps with a fly.toml. create, update, delete: the one ConfigMap of an
# Activation with the plan that its status has no room for, golive-plan-<uid>; operator-policy.yaml
# holds the writes to that.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Who may approve a gate: the bindings of the namespace, and the roles that they name, by name. No
# secret is in them. The preflight check GatesApprovable says Unknown without.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [list]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles]
  verbs: [get]
{{- end }}
{{- define "golive.rules.reviewer" -}}
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterrolebindings]
  verbs: [list]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  verbs: [get]
{{- end }}
{{- define "golive.rules.own" -}}
# Leader election.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
# The claims on Fly apps, golive-app-<app>, the records of releases, golive-release-<uid>-<n>, what people
# were told, golive-outbox-<uid>, and what a watch has observed, golive-watch-<uid>.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, update, patch, delete]
# The key of the fingerprints of secrets, and the tokens for single apps: golive-app-token-<uid>.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update, delete]
{{- end }}
{{- define "golive.rules.namespace" -}}
- apiGroups: [golive.dev]
  resources: [activations]
  verbs: [get, list, watch, patch]
- apiGroups: [golive.dev]
  resources: [activations/status]
  verbs: [patch]
- apiGroups: [golive.dev]
  resources: [activationapprovals]
  verbs: [list, watch]
# Says of each decision whether it counts, and why not.
- apiGroups: [golive.dev]
  resources: [activationapprovals/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
# create, update, delete: the plan that a status has no room for, golive-plan-<uid>.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Who may approve a gate: the bindings of the namespace, and the roles that they name, by name. No
# secret is in them. The preflight check GatesApprovable says Unknown without.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [list]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles]
  verbs: [get]
{{- end }}
{{- define "golive.rules.watcher" -}}
- apiGroups: [golive.dev]
  resources: [activations]
  verbs: [get, list, watch]
- apiGroups: [golive.dev]
  resources: [activationapprovals]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
{{- end }}
