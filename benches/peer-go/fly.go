package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// fly is Fly.io: one pool of connections, and the limits that Fly.io documents.
type fly struct {
	machines, registry string
	http               *http.Client
	limited            bool
	mutex              sync.Mutex
	limits             map[string]*rate.Limiter
}

func newFly(machines, registry string, limited bool) *fly {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return &fly{
		machines: machines, registry: registry, limited: limited,
		// Longer than the longest poll.
		http:   &http.Client{Transport: transport, Timeout: 70 * time.Second},
		limits: map[string]*rate.Limiter{},
	}
}

// statusError is an answer that is no success.
type statusError struct {
	what   string
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: HTTP %d: %s", e.what, e.status, e.body)
}

func isStatus(err error, status int) bool {
	answer, ok := err.(*statusError)
	return ok && answer.status == status
}

// wait keeps one limit per action and app, as Golive does: 1 request/s with a burst of 3, 5/s with 10 to read
// one machine, and 95 deletions of apps a minute with a burst of 20.
func (f *fly) wait(ctx context.Context, action, app string) error {
	if !f.limited {
		return nil
	}
	limit, burst := rate.Limit(1), 3
	switch action {
	case "read":
		limit, burst = 5, 10
	case "delete-app":
		limit, burst = 95.0/60, 20
	}
	f.mutex.Lock()
	key := action + " " + app
	limiter, known := f.limits[key]
	if !known {
		limiter = rate.NewLimiter(limit, burst)
		f.limits[key] = limiter
	}
	f.mutex.Unlock()
	return limiter.Wait(ctx)
}

// forget drops the limits of an app that is gone.
func (f *fly) forget(app string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for key := range f.limits {
		if strings.HasSuffix(key, " "+app) {
			delete(f.limits, key)
		}
	}
}

func (f *fly) call(ctx context.Context, token, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, f.machines+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", "peer-go/1")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := f.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return &statusError{method + " " + path, response.StatusCode, string(text)}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

type app struct {
	Name         string `json:"name"`
	Organization struct {
		Slug string `json:"slug"`
	} `json:"organization"`
}

// app reads an app; nil when there is none.
func (f *fly) app(ctx context.Context, token, name string) (*app, error) {
	if err := f.wait(ctx, "app", name); err != nil {
		return nil, err
	}
	var found app
	err := f.call(ctx, token, http.MethodGet, "/v1/apps/"+name, nil, &found)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	return &found, err
}

func (f *fly) createApp(ctx context.Context, token, organization, name string) error {
	if err := f.wait(ctx, "create-app", organization); err != nil {
		return err
	}
	body := map[string]string{"name": name, "org_slug": organization}
	return f.call(ctx, token, http.MethodPost, "/v1/apps", body, nil)
}

func (f *fly) deleteApp(ctx context.Context, token, organization, name string) error {
	if err := f.wait(ctx, "delete-app", organization); err != nil {
		return err
	}
	err := f.call(ctx, token, http.MethodDelete, "/v1/apps/"+name+"?force=true", nil, nil)
	if isStatus(err, http.StatusNotFound) {
		err = nil
	}
	if err == nil {
		f.forget(name)
	}
	return err
}

type address struct {
	IP     string `json:"ip"`
	Shared bool   `json:"shared"`
}

func (f *fly) addresses(ctx context.Context, token, app string) ([]address, error) {
	if err := f.wait(ctx, "addresses", app); err != nil {
		return nil, err
	}
	var list struct {
		IPs []address `json:"ips"`
	}
	err := f.call(ctx, token, http.MethodGet, "/v1/apps/"+app+"/ip_assignments", nil, &list)
	return list.IPs, err
}

func (f *fly) assign(ctx context.Context, token, app, kind string) error {
	if err := f.wait(ctx, "assign", app); err != nil {
		return err
	}
	body := map[string]string{"type": kind}
	return f.call(ctx, token, http.MethodPost, "/v1/apps/"+app+"/ip_assignments", body, nil)
}

type machine struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	State      string `json:"state"`
	InstanceID string `json:"instance_id"`
	Config     struct {
		Image string `json:"image"`
	} `json:"config"`
	Checks []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	} `json:"checks"`
}

func (m *machine) healthy() bool {
	for _, check := range m.Checks {
		if check.Status != "passing" {
			return false
		}
	}
	return m.State == "started"
}

func (f *fly) list(ctx context.Context, token, app string) ([]machine, error) {
	if err := f.wait(ctx, "machines", app); err != nil {
		return nil, err
	}
	var list []machine
	err := f.call(ctx, token, http.MethodGet, "/v1/apps/"+app+"/machines", nil, &list)
	return list, err
}

func (f *fly) read(ctx context.Context, token, app, id string) (*machine, error) {
	if err := f.wait(ctx, "read", app); err != nil {
		return nil, err
	}
	var found machine
	err := f.call(ctx, token, http.MethodGet, "/v1/apps/"+app+"/machines/"+id, nil, &found)
	return &found, err
}

func (f *fly) create(ctx context.Context, token, app string, body any) (*machine, error) {
	if err := f.wait(ctx, "create", app); err != nil {
		return nil, err
	}
	var made machine
	err := f.call(ctx, token, http.MethodPost, "/v1/apps/"+app+"/machines", body, &made)
	return &made, err
}

func (f *fly) update(ctx context.Context, token, app, id string, body any) (*machine, error) {
	if err := f.wait(ctx, "update", app); err != nil {
		return nil, err
	}
	var made machine
	err := f.call(ctx, token, http.MethodPost, "/v1/apps/"+app+"/machines/"+id, body, &made)
	return &made, err
}

// started is one long poll; false when the time is over.
func (f *fly) started(ctx context.Context, token, app string, m *machine) (bool, error) {
	if err := f.wait(ctx, "wait", app); err != nil {
		return false, err
	}
	query := url.Values{"state": {"started"}, "timeout": {"30"}, "instance_id": {m.InstanceID}}
	path := "/v1/apps/" + app + "/machines/" + m.ID + "/wait?" + query.Encode()
	err := f.call(ctx, token, http.MethodGet, path, nil, nil)
	if isStatus(err, http.StatusRequestTimeout) {
		return false, nil
	}
	return err == nil, err
}

// pin resolves a tag of Fly.io's registry to its digest.
func (f *fly) pin(ctx context.Context, token, image string) (string, error) {
	name, tag, found := strings.Cut(strings.TrimPrefix(image, "registry.fly.io/"), ":")
	if !found {
		return "", fmt.Errorf("%s has no tag", image)
	}
	target := f.registry + "/v2/" + name + "/manifests/" + tag
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	request.SetBasicAuth("x", token)
	request.Header.Set("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "+
		"application/vnd.docker.distribution.manifest.v2+json")
	response, err := f.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", &statusError{"GET " + target, response.StatusCode, string(text)}
	}
	return "registry.fly.io/" + name + "@" + response.Header.Get("Docker-Content-Digest"), nil
}
