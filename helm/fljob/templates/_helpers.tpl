{{/* The name of the operator's objects. */}}
{{- define "fljob.name" -}}
{{- default "fljob-operator" .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of the operator's pods, which do not change over the life of a release. */}}
{{- define "fljob.selector" -}}
app.kubernetes.io/name: fljob
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object; those that operators and services look for last, because the last one counts. */}}
{{- define "fljob.labels" -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")) -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $own = merge (include "fljob.selector" . | fromYaml) $own (deepCopy .Values.commonLabels) -}}
{{- toYaml $own -}}
{{- end -}}

{{/* Name, namespace and labels of an object of the operator's own. */}}
{{- define "fljob.metadata" -}}
name: {{ include "fljob.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "fljob.labels" . | nindent 2 }}
{{- end -}}

{{- define "fljob.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "fljob.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* An image of the project's own. Takes a dict: root, repository, and digest if there is one. */}}
{{- define "fljob.reference" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{- define "fljob.image" -}}
{{- include "fljob.reference" (dict "root" . "repository" .Values.image.repository "digest" .Values.image.digest) -}}
{{- end -}}

{{- define "fljob.storeImage" -}}
{{- include "fljob.reference" (dict "root" . "repository" (printf "%s-server" .Values.image.repository) "digest" .Values.image.store.digest) -}}
{{- end -}}

{{/* FRAMEWORK=IMAGE of every framework, with commas. */}}
{{- define "fljob.workerImages" -}}
{{- $pairs := list -}}
{{- range $framework := list "numpy" "paddle" "sklearn" -}}
{{- $own := include "fljob.reference" (dict "root" $ "repository" (printf "%s-worker-%s" $.Values.image.repository $framework)) -}}
{{- $pairs = append $pairs (printf "%s=%s" $framework (default $own (index $.Values.workerImages $framework))) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* Where the job of `helm test` runs. */}}
{{- define "fljob.testNamespace" -}}
{{- default (default .Release.Namespace (first .Values.watchNamespaces)) .Values.test.namespace -}}
{{- end -}}

{{/* What the operator may do with FLJobs and their children. Server-side apply needs create and patch, and no update.
     Where the admission plugin OwnerReferencesPermissionEnforcement is on, as on OpenShift, a child can name its FLJob as
     the owner whose deletion waits for it only with update of fljobs/finalizers. */}}
{{- define "fljob.rules" -}}
- apiGroups: [fljob.dev]
  resources: [fljobs]
  verbs: [get, list, watch, delete]
- apiGroups: [fljob.dev]
  resources: [fljobs/status, fljobs/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create, patch]
{{- end -}}
