// Command peer-go is an operator for the smallest Activation, as a good author of Go would write it with
// controller-runtime: the peer that `make bench` measures Golive against. See README.md for what it does,
// what it leaves out, and why the comparison is fair.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// settings are the flags.
type settings struct {
	namespace, machines, registry, edge, ca, listen string
	recheck                                         time.Duration
	concurrency                                     int
	limits, elect                                   bool
}

func flags() settings {
	var s settings
	flag.StringVar(&s.namespace, "namespace", "", "namespace to work in")
	flag.StringVar(&s.machines, "fly-machines-url", "https://api.machines.dev", "the Machines API")
	flag.StringVar(&s.registry, "fly-registry-url", "https://registry.fly.io", "the registry")
	flag.StringVar(&s.edge, "edge", "", "address that stands for every host of fly.dev")
	flag.StringVar(&s.ca, "ca-file", "", "certificate authorities of the edge")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:0", "address of probes and metrics")
	flag.DurationVar(&s.recheck, "recheck-interval", 5*time.Minute, "how often a live object is compared with Fly.io")
	flag.IntVar(&s.concurrency, "max-concurrent-reconciles", 32, "objects that are worked on at a time")
	flag.BoolVar(&s.limits, "fly-limits", true, "keep the documented rate limits of Fly.io")
	flag.BoolVar(&s.elect, "leader-elect", false, "work only as the leader")
	flag.Parse()
	return s
}

func main() {
	s := flags()
	ctrl.SetLogger(zap.New())
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "peer-go:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), addToScheme(scheme)); err != nil {
		return err
	}
	edge, err := edgeClient(s)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "peer-go/1"
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{s.namespace: {}}},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                s.elect,
		LeaderElectionID:              "peer-go",
		LeaderElectionNamespace:       s.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	reconciler := &reconciler{
		Client:  manager.GetClient(),
		fly:     newFly(s.machines, s.registry, s.limits),
		edge:    edge,
		recheck: s.recheck,
	}
	err = ctrl.NewControllerManagedBy(manager).
		// Its own writes of the status are no reason to look again.
		For(&Activation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: s.concurrency}).
		Complete(reconciler)
	if err != nil {
		return err
	}
	if err := serve(s, manager); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

// serve answers probes and metrics on one port, and says which.
func serve(s settings, manager ctrl.Manager) error {
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	ready := func(request *http.Request) error {
		if !manager.GetCache().WaitForCacheSync(request.Context()) {
			return errors.New("the cache is not filled")
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/healthz", healthz.CheckHandler{Checker: healthz.Ping})
	mux.Handle("/readyz", healthz.CheckHandler{Checker: ready})
	mux.Handle("/metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	fmt.Printf("serving /healthz, /readyz and /metrics address=%s\n", listener.Addr())
	go func() { _ = http.Serve(listener, mux) }()
	return nil
}

// edgeClient asks applications over their public addresses.
func edgeClient(s settings) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, err
		}
		roots.AppendCertsFromPEM(pem)
	}
	var dialer net.Dialer
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		// Every application is a host of its own: a kept connection would serve one look in five minutes.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if s.edge != "" {
				address = s.edge
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}
