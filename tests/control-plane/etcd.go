package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdLimit bounds the start of an etcd with one member and little data.
const etcdLimit = 60 * time.Second

// store is a running etcd.
type store struct {
	server   *embed.Etcd
	endpoint string
}

// startEtcd starts etcd on two ports that the system chooses. Somebody else may take such a port
// before etcd binds it: then try again with others.
func startEtcd(c config) (*store, error) {
	const tries = 5
	var err error
	for range tries {
		var s *store
		if s, err = tryStartEtcd(c); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func tryStartEtcd(c config) (*store, error) {
	client, err := freeURL()
	if err != nil {
		return nil, err
	}
	peer, err := freeURL()
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(c.dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "error"
	cfg.UnsafeNoFsync = !c.fsync
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
		return &store{server: server, endpoint: client.String()}, nil
	case err = <-server.Err():
	case <-time.After(etcdLimit):
		err = errors.New("not ready in time")
	}
	server.Close()
	return nil, err
}

func (s *store) close() {
	s.server.Close()
}

func freeURL() (url.URL, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return url.URL{}, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}, nil
}
