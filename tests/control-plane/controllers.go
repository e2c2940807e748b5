package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/component-base/cli"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// loops are the controllers that an operator's objects depend on. The others work for pods, nodes
// and volumes, which do not exist here.
var loops = []string{
	"garbage-collector-controller",
	"namespace-controller",
	"serviceaccount-controller",
	"clusterrole-aggregation-controller",
	"validatingadmissionpolicy-status-controller",
}

// child is the controller manager: a process of its own, because two components of Kubernetes
// cannot configure logging in one.
type child struct {
	command  *exec.Cmd
	lifeline io.WriteCloser
	done     chan error
}

func startControllers(c config) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, "controller-manager", c.dir)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	// Twice, because it must never outlive us: the kernel's signal, and the end of its input.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	lifeline, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	started := &child{command: command, lifeline: lifeline, done: make(chan error, 1)}
	go func() { started.done <- command.Wait() }()
	return started, nil
}

// ended delivers the result when the process has ended by itself. Never, if there is none.
func (c *child) ended() <-chan error {
	if c == nil {
		return nil
	}
	return c.done
}

func (c *child) stop() {
	if c == nil {
		return
	}
	_ = c.lifeline.Close()
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		_ = c.command.Process.Kill()
	}
}

// controllerManager is the main function of the child.
func controllerManager(dir string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	manager := kcm.NewControllerManagerCommand()
	manager.SetArgs([]string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(loops, ","),
		"--service-account-private-key-file=" + filepath.Join(dir, "sa.key"),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	})
	os.Exit(cli.Run(manager))
	return nil
}
