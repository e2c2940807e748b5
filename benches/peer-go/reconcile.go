package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

const finalizer = "peer-go.golive.dev/finalizer"

// reconciler takes an Activation live, and looks at it again from time to time. It keeps nothing between
// two passes: what is done is what Fly.io shows.
type reconciler struct {
	client.Client
	fly     *fly
	edge    *http.Client
	recheck time.Duration
}

// Reconcile does one pass. An error is tried again with the queue's own pauses.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object Activation
	if err := r.Get(ctx, request.NamespacedName, &object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	token, err := r.token(ctx, object.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.finalize(ctx, token, &object)
	}
	if !controllerutil.ContainsFinalizer(&object, finalizer) {
		before := object.DeepCopy()
		controllerutil.AddFinalizer(&object, finalizer)
		if err := r.Patch(ctx, &object, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, err
		}
	}
	pass := &pass{reconciler: r, token: token, object: &object, written: object.DeepCopy()}
	if err := pass.run(ctx); err != nil {
		return ctrl.Result{}, err
	}
	// Spread, so that objects that went live together are not looked at together.
	spread := time.Duration(float64(r.recheck) * (0.9 + 0.2*rand.Float64()))
	return ctrl.Result{RequeueAfter: spread}, nil
}

func (r *reconciler) token(ctx context.Context, namespace string) (string, error) {
	var secret corev1.Secret
	err := r.Get(ctx, types.NamespacedName{Namespace: namespace, Name: "fly"}, &secret)
	return string(secret.Data["token"]), err
}

func (r *reconciler) finalize(ctx context.Context, token string, object *Activation) error {
	if !controllerutil.ContainsFinalizer(object, finalizer) {
		return nil
	}
	if err := r.fly.deleteApp(ctx, token, object.Spec.Organization, object.Spec.App); err != nil {
		return err
	}
	before := object.DeepCopy()
	controllerutil.RemoveFinalizer(object, finalizer)
	return client.IgnoreNotFound(r.Patch(ctx, object, client.MergeFrom(before)))
}

// pass is one look at one object.
type pass struct {
	*reconciler
	token   string
	object  *Activation
	written *Activation
}

func (p *pass) run(ctx context.Context) error {
	steps := []struct {
		condition, phase string
		do               func(context.Context) error
	}{
		{"PreflightPassed", "Preflight", p.preflight},
		{"Provisioned", "Provision", p.provision},
		{"Deployed", "Deploy", p.deploy},
		{"SmokeTested", "SmokeTest", p.smoke},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			p.set(step.condition, metav1.ConditionFalse, "Failed", err.Error())
			p.set("Ready", metav1.ConditionFalse, "Failed", step.phase+" has failed")
			return firstOf(err, p.write(ctx))
		}
		p.set(step.condition, metav1.ConditionTrue, "Succeeded", step.phase+" has succeeded")
		if meta.IsStatusConditionTrue(p.object.Status.Conditions, "Live") {
			continue
		}
		p.object.Status.Phase = step.phase
		// The last one is written together with Live.
		if step.phase != "SmokeTest" {
			if err := p.write(ctx); err != nil {
				return err
			}
		}
	}
	p.object.Status.Phase = "Live"
	p.object.Status.URL = "https://" + p.object.Spec.App + ".fly.dev"
	p.set("Live", metav1.ConditionTrue, "Live", "the application is live")
	p.set("Ready", metav1.ConditionTrue, "Live", "the application is live")
	return p.write(ctx)
}

func firstOf(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func (p *pass) set(kind string, status metav1.ConditionStatus, reason, message string) {
	p.object.Status.ObservedGeneration = p.object.Generation
	if len(message) > 1024 {
		message = message[:1024]
	}
	meta.SetStatusCondition(&p.object.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: p.object.Generation,
	})
}

// write sends what has changed, or nothing.
func (p *pass) write(ctx context.Context) error {
	if reflect.DeepEqual(p.object.Status, p.written.Status) {
		return nil
	}
	p.written.ResourceVersion = p.object.ResourceVersion
	err := p.Status().Patch(ctx, p.object, client.MergeFrom(p.written))
	p.written = p.object.DeepCopy()
	return err
}

// preflight: the image exists, and the name is free or ours.
func (p *pass) preflight(ctx context.Context) error {
	if meta.IsStatusConditionTrue(p.object.Status.Conditions, "Live") &&
		p.object.Status.ObservedGeneration == p.object.Generation {
		return nil
	}
	_, err := p.fly.pin(ctx, p.token, p.object.Spec.Deploy.Image)
	return err
}

func (p *pass) provision(ctx context.Context) error {
	spec := &p.object.Spec
	found, err := p.fly.app(ctx, p.token, spec.App)
	if err != nil {
		return err
	}
	if found == nil {
		if err := p.fly.createApp(ctx, p.token, spec.Organization, spec.App); err != nil {
			return err
		}
	} else if found.Organization.Slug != spec.Organization {
		return fmt.Errorf("the app %s belongs to %s", spec.App, found.Organization.Slug)
	}
	addresses, err := p.fly.addresses(ctx, p.token, spec.App)
	if err != nil {
		return err
	}
	var v4, v6 bool
	for _, address := range addresses {
		v4, v6 = v4 || address.Shared, v6 || !address.Shared
	}
	if !v4 {
		if err := p.fly.assign(ctx, p.token, spec.App, "shared_v4"); err != nil {
			return err
		}
	}
	if !v6 {
		return p.fly.assign(ctx, p.token, spec.App, "v6")
	}
	return nil
}

func (p *pass) deploy(ctx context.Context) error {
	spec := &p.object.Spec
	found, err := p.fly.list(ctx, p.token, spec.App)
	if err != nil {
		return err
	}
	settled := meta.IsStatusConditionTrue(p.object.Status.Conditions, "Live") &&
		p.written.Status.ObservedGeneration == p.object.Generation
	if settled && len(found) == spec.Deploy.Scale["app"] {
		well := true
		for at := range found {
			well = well && found[at].healthy()
		}
		if well {
			return nil
		}
	}
	image, err := p.fly.pin(ctx, p.token, spec.Deploy.Image)
	if err != nil {
		return err
	}
	byName := map[string]*machine{}
	for at := range found {
		byName[found[at].Name] = &found[at]
	}
	for number := range spec.Deploy.Scale["app"] {
		if err := p.machine(ctx, byName, image, fmt.Sprintf("app-%d", number)); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) machine(ctx context.Context, byName map[string]*machine, image, name string) error {
	spec := &p.object.Spec
	body := map[string]any{"name": name, "region": spec.Region, "config": config(spec, image)}
	wanted, known := byName[name]
	var err error
	switch {
	case !known:
		wanted, err = p.fly.create(ctx, p.token, spec.App, body)
	case wanted.Config.Image != image:
		delete(body, "name")
		wanted, err = p.fly.update(ctx, p.token, spec.App, wanted.ID, body)
	case wanted.healthy():
		return nil
	}
	if err != nil {
		return err
	}
	started, err := p.fly.started(ctx, p.token, spec.App, wanted)
	if err != nil {
		return err
	}
	if !started {
		return fmt.Errorf("machine %s does not start", wanted.ID)
	}
	now, err := p.fly.read(ctx, p.token, spec.App, wanted.ID)
	if err != nil {
		return err
	}
	if !now.healthy() {
		return fmt.Errorf("machine %s is %s, and not all of its checks pass", now.ID, now.State)
	}
	return nil
}

func config(spec *Spec, image string) map[string]any {
	port := spec.Deploy.Port
	if port == 0 {
		port = 8080
	}
	return map[string]any{
		"image":    image,
		"guest":    map[string]any{"cpu_kind": "shared", "cpus": 1, "memory_mb": 256},
		"metadata": map[string]string{"fly_process_group": "app", "fly_platform_version": "v2"},
		"services": []any{map[string]any{
			"protocol": "tcp", "internal_port": port,
			"ports": []any{
				map[string]any{"port": 80, "handlers": []string{"http"}, "force_https": true},
				map[string]any{"port": 443, "handlers": []string{"http", "tls"}},
			},
		}},
	}
}

// smoke asks for the homepage over the public address. A live object is not asked again.
func (p *pass) smoke(ctx context.Context) error {
	if meta.IsStatusConditionTrue(p.object.Status.Conditions, "Live") &&
		p.written.Status.ObservedGeneration == p.object.Generation {
		return nil
	}
	target := "https://" + p.object.Spec.App + ".fly.dev/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := p.edge.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: HTTP %d", target, response.StatusCode)
	}
	return nil
}
