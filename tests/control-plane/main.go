// control-plane: the real control plane of Kubernetes as far as an operator sees it, on 127.0.0.1
// only, in one program: etcd, kube-apiserver, and loops of the kube-controller-manager (garbage
// collection, namespace deletion, service accounts, aggregated roles, type checks of admission
// policies). For tests and the demo. There are no nodes: pods are stored, never run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"k8s.io/component-base/version"
)

// shutdownLimit bounds a clean end: after it the program just exits. Its state survives that as it
// survives SIGKILL.
const shutdownLimit = 15 * time.Second

// config is what the command line says.
type config struct {
	dir       string
	port      int
	fsync     bool
	auditLog  string
	stdinEOF  bool
	verbosity int
}

func init() {
	// The child's parent-death signal belongs to the thread that starts it: keep main on one
	// thread that lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == "controller-manager" {
		err = controllerManager(os.Args[2])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "control-plane:", err)
		os.Exit(1)
	}
}

func parse() (config, error) {
	var c config
	showVersion := flag.Bool("version", false, "print the version of Kubernetes and exit")
	flag.StringVar(&c.dir, "dir", "", "directory for all state and DIR/kubeconfig; a later start continues from it")
	flag.IntVar(&c.port, "port", 0, "port of the API server on 127.0.0.1; 0 lets the system choose")
	flag.BoolVar(&c.fsync, "fsync", false, "let etcd sync every write to the disk, as it does in production")
	flag.StringVar(&c.auditLog, "audit-log", "", "append one JSON line per request to this file (level Metadata)")
	flag.BoolVar(&c.stdinEOF, "exit-on-stdin-eof", false, "end when standard input ends, so never outlive the parent")
	flag.IntVar(&c.verbosity, "v", 0, "verbosity of the logs on standard error")
	flag.Parse()
	if *showVersion {
		fmt.Println(version.Get().GitVersion)
		os.Exit(0)
	}
	if flag.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: all settings are flags, see --help", flag.Arg(0))
	}
	if c.dir == "" {
		return c, errors.New("--dir is required: a directory for the state, for example --dir /tmp/control-plane")
	}
	dir, err := filepath.Abs(c.dir)
	c.dir = dir
	return c, err
}

func run() error {
	c, err := parse()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c.stdinEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel(nil)
		}()
	}

	store, err := startEtcd(c)
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w", err)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err != nil {
		return fmt.Errorf("cannot listen for the API server: %w", err)
	}
	keys, err := prepareKeys(c.dir, listener.Addr().String())
	if err != nil {
		return fmt.Errorf("cannot prepare keys and certificates: %w", err)
	}

	// The API server has a context of its own: it ends after the controllers.
	apiCtx, stopAPI := context.WithCancel(context.Background())
	defer stopAPI()
	apiDone := make(chan error, 1)
	go func() { apiDone <- apiServer(apiCtx, c, keys, store.endpoint, listener) }()

	ready := make(chan error, 1)
	go func() { ready <- waitReady(ctx, keys, "/readyz", "/api/v1/namespaces/default") }()

	// The controller manager gives up on an API server that does not answer within 10 s, so wait
	// for the first sign of life.
	if err := waitFirst(ctx, apiDone, keys); err != nil {
		return err
	}
	var controllers *child
	if ctx.Err() == nil {
		if controllers, err = startControllers(c); err != nil {
			return fmt.Errorf("cannot start the controllers: %w", err)
		}
	}

	// From here on: announce readiness, then wait for a reason to end.
	err = nil
	for done := false; !done; {
		select {
		case failed := <-ready:
			ready = nil
			if failed == nil {
				fmt.Printf("control-plane: ready kubeconfig=%s\n", keys.kubeconfig)
			}
		case <-ctx.Done():
			done = true
		case ended := <-apiDone:
			err, done = fmt.Errorf("the API server ended: %w", orUnknown(ended)), true
		case ended := <-controllers.ended():
			err, done = fmt.Errorf("the controllers ended: %w", orUnknown(ended)), true
		}
	}

	time.AfterFunc(shutdownLimit, func() {
		fmt.Fprintln(os.Stderr, "control-plane: no clean end in time, leaving all the same")
		os.Exit(2)
	})
	controllers.stop()
	stopAPI()
	if err == nil {
		<-apiDone
	}
	store.close()
	return err
}

// waitFirst returns when the API server answers anything, or the program is to end.
func waitFirst(ctx context.Context, apiDone <-chan error, keys *keys) error {
	alive := make(chan error, 1)
	go func() { alive <- waitReady(ctx, keys, "/livez?exclude=poststarthook/rbac/bootstrap-roles") }()
	select {
	case <-alive:
		return nil
	case err := <-apiDone:
		return fmt.Errorf("the API server ended: %w", orUnknown(err))
	}
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}
