package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// verdict is what the judges say of one object.
type verdict struct {
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
	Argo    string `json:"argo"`
	Message string `json:"message"`
}

// judge reads a list of objects from standard input and returns a verdict for each:
// judge --health FILE --flux FILE. The latter holds a Kustomization of Flux.
func judge(args []string) (any, error) {
	flags := flag.NewFlagSet("judge", flag.ContinueOnError)
	health := flags.String("health", "", "health.lua of Argo CD")
	flux := flags.String("flux", "", "a Kustomization of Flux with healthCheckExprs")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	script, err := os.ReadFile(*health)
	if err != nil {
		return nil, err
	}
	expressions, err := expressionsOf(*flux)
	if err != nil {
		return nil, err
	}
	objects, err := objects()
	if err != nil {
		return nil, err
	}
	verdicts := []verdict{}
	for _, object := range objects {
		said, err := judgeOne(object, string(script), expressions)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, *said)
	}
	return verdicts, nil
}

func judgeOne(object *unstructured.Unstructured, script string, flux *cel.StatusEvaluator) (*verdict, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	said := &verdict{Kstatus: computed.Status.String()}
	// The order of evaluation, and what a deletion and an old generation mean, are those of Flux.
	result, err := flux.Evaluate(context.Background(), object)
	if err != nil {
		return nil, err
	}
	said.Flux = result.Status.String()
	returned, err := runLua(object.Object, script)
	if err != nil {
		return nil, err
	}
	var argo struct{ Status, Message string }
	if err := json.Unmarshal(returned, &argo); err != nil {
		return nil, err
	}
	said.Argo, said.Message = argo.Status, argo.Message
	return said, nil
}

// expressionsOf reads the one entry of spec.healthCheckExprs.
func expressionsOf(path string) (*cel.StatusEvaluator, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, err
	}
	return cel.NewStatusEvaluator(&kustomization.Spec.HealthCheckExprs[0].HealthCheckExpressions)
}

func objects() ([]*unstructured.Unstructured, error) {
	var list []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for _, object := range list {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		// As client-go reads it: whole numbers become int64.
		one := &unstructured.Unstructured{}
		if err := one.UnmarshalJSON(text); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}
