package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Activation is the part of the definition that the smallest object has.
type Activation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

// Spec is what is wanted.
type Spec struct {
	Organization string `json:"organization"`
	App          string `json:"app"`
	Region       string `json:"region"`
	Deploy       Deploy `json:"deploy"`
}

// Deploy is what runs.
type Deploy struct {
	Image string         `json:"image,omitempty"`
	Port  int            `json:"port,omitempty"`
	Scale map[string]int `json:"scale,omitempty"`
}

// Status is what was observed.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Phase              string             `json:"phase,omitempty"`
	URL                string             `json:"url,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// ActivationList is a list of them.
type ActivationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Activation `json:"items"`
}

// DeepCopyObject copies it, as generated code does.
func (in *Activation) DeepCopyObject() runtime.Object { return in.DeepCopy() }

// DeepCopy copies it.
func (in *Activation) DeepCopy() *Activation {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	if in.Spec.Deploy.Scale != nil {
		out.Spec.Deploy.Scale = make(map[string]int, len(in.Spec.Deploy.Scale))
		for group, count := range in.Spec.Deploy.Scale {
			out.Spec.Deploy.Scale[group] = count
		}
	}
	if in.Status.Conditions != nil {
		out.Status.Conditions = make([]metav1.Condition, len(in.Status.Conditions))
		for at := range in.Status.Conditions {
			in.Status.Conditions[at].DeepCopyInto(&out.Status.Conditions[at])
		}
	}
	return &out
}

// DeepCopyObject copies it, as generated code does.
func (in *ActivationList) DeepCopyObject() runtime.Object {
	out := *in
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = make([]Activation, len(in.Items))
	for at := range in.Items {
		out.Items[at] = *in.Items[at].DeepCopy()
	}
	return &out
}

func addToScheme(scheme *runtime.Scheme) error {
	version := schema.GroupVersion{Group: "golive.dev", Version: "v1alpha1"}
	scheme.AddKnownTypes(version, &Activation{}, &ActivationList{})
	metav1.AddToGroupVersion(scheme, version)
	return nil
}
