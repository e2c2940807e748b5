package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/release"
)

// testLimit bounds `helm test`: its pods are run by nobody but the test.
const testLimit = 2 * time.Minute

// request is what one call of Helm needs.
type request struct {
	kubeconfig string
	name       string
	namespace  string
	chart      string
	values     string
	create     bool
	kubernetes string
	config     *action.Configuration
}

// rendered is what Helm made of a chart, or left of a release.
type rendered struct {
	Manifest string   `json:"manifest,omitempty"`
	Hooks    []string `json:"hooks,omitempty"`
	Notes    string   `json:"notes,omitempty"`
	Info     string   `json:"info,omitempty"`
	Revision int      `json:"revision,omitempty"`
	Messages []string `json:"messages,omitempty"`
}

// helm runs one of Helm's actions: helm ACTION [flags].
func helm(args []string) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("helm needs an action")
	}
	var r request
	flags := flag.NewFlagSet("helm", flag.ContinueOnError)
	flags.StringVar(&r.kubeconfig, "kubeconfig", "", "the cluster; none for lint and template")
	flags.StringVar(&r.name, "name", "golive", "name of the release")
	flags.StringVar(&r.namespace, "namespace", "golive-system", "namespace of the release")
	flags.StringVar(&r.chart, "chart", "", "folder of the chart")
	flags.StringVar(&r.values, "values", "", "file with values")
	flags.BoolVar(&r.create, "create-namespace", false, "create the namespace")
	flags.StringVar(&r.kubernetes, "kube-version", "v1.36.3", "version of Kubernetes for lint and template")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	actions := map[string]func(request) (*rendered, error){
		"lint": lint, "template": template, "install": install, "upgrade": upgrade,
		"uninstall": uninstall, "test": test,
	}
	run := actions[args[0]]
	if run == nil {
		return nil, fmt.Errorf("helm cannot %q here", args[0])
	}
	r.config = new(action.Configuration)
	if r.kubeconfig != "" {
		settings := cli.New()
		settings.KubeConfig = r.kubeconfig
		settings.SetNamespace(r.namespace)
		quiet := func(string, ...any) {}
		if err := r.config.Init(settings.RESTClientGetter(), r.namespace, "secret", quiet); err != nil {
			return nil, err
		}
	}
	return run(r)
}

// load reads the chart and the values.
func (r request) load() (*chart.Chart, chartutil.Values, error) {
	loaded, err := loader.Load(r.chart)
	if err != nil {
		return nil, nil, err
	}
	values := chartutil.Values{}
	if r.values != "" {
		if values, err = chartutil.ReadValuesFile(r.values); err != nil {
			return nil, nil, err
		}
	}
	return loaded, values, nil
}

// lint says what Helm finds wrong; warnings count as errors.
func lint(r request) (*rendered, error) {
	_, values, err := r.load()
	if err != nil {
		return nil, err
	}
	linter := action.NewLint()
	linter.Strict = true
	if linter.KubeVersion, err = chartutil.ParseKubeVersion(r.kubernetes); err != nil {
		return nil, err
	}
	linter.Namespace = r.namespace
	result := linter.Run([]string{r.chart}, values)
	found := &rendered{Messages: []string{}}
	for _, message := range result.Messages {
		found.Messages = append(found.Messages, message.Error())
	}
	return found, errors.Join(result.Errors...)
}

// template renders without a cluster.
func template(r request) (*rendered, error) {
	loaded, values, err := r.load()
	if err != nil {
		return nil, err
	}
	r.config.Log = func(string, ...any) {}
	installer := action.NewInstall(r.config)
	installer.DryRun, installer.ClientOnly, installer.Replace = true, true, true
	if installer.KubeVersion, err = chartutil.ParseKubeVersion(r.kubernetes); err != nil {
		return nil, err
	}
	installer.ReleaseName, installer.Namespace = r.name, r.namespace
	done, err := installer.Run(loaded, values)
	return of(done), err
}

func install(r request) (*rendered, error) {
	loaded, values, err := r.load()
	if err != nil {
		return nil, err
	}
	installer := action.NewInstall(r.config)
	installer.ReleaseName, installer.Namespace = r.name, r.namespace
	installer.CreateNamespace = r.create
	done, err := installer.RunWithContext(context.Background(), loaded, values)
	return of(done), err
}

func upgrade(r request) (*rendered, error) {
	loaded, values, err := r.load()
	if err != nil {
		return nil, err
	}
	upgrader := action.NewUpgrade(r.config)
	upgrader.Namespace = r.namespace
	done, err := upgrader.Run(r.name, loaded, values)
	return of(done), err
}

func uninstall(r request) (*rendered, error) {
	done, err := action.NewUninstall(r.config).Run(r.name)
	if err != nil {
		return nil, err
	}
	return &rendered{Info: done.Info}, nil
}

// test runs the pods of `helm test` and waits for their end.
func test(r request) (*rendered, error) {
	tester := action.NewReleaseTesting(r.config)
	tester.Namespace, tester.Timeout = r.namespace, testLimit
	done, err := tester.Run(r.name)
	if err != nil {
		return nil, err
	}
	result := of(done)
	for _, hook := range done.Hooks {
		result.Messages = append(result.Messages, fmt.Sprintf("%s %s", hook.Name, hook.LastRun.Phase))
	}
	return result, tester.GetPodLogs(io.Discard, &release.Release{})
}

func of(done *release.Release) *rendered {
	if done == nil {
		return nil
	}
	result := &rendered{Manifest: done.Manifest, Revision: done.Version}
	if done.Info != nil {
		result.Notes = done.Info.Notes
	}
	for _, hook := range done.Hooks {
		result.Hooks = append(result.Hooks, hook.Manifest)
	}
	return result
}
