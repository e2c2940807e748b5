package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// tokenBytes is the entropy of the administrator's token.
const tokenBytes = 32

// validity of the certificates: as long as any test or demo may want.
const validity = 10 * 365 * 24 * time.Hour

// keys are the files by which the parts know each other. All but the serving certificate and the
// kubeconfig are made once per directory, so that a restart is the same cluster to its clients.
type keys struct {
	server     string // https://host:port
	ca         *x509.CertPool
	token      string
	tokenFile  string // static token file: the administrator
	servingKey string
	serving    string
	saKey      string // signs the tokens of service accounts
	saPub      string
	kubeconfig string
}

func prepareKeys(dir, address string) (*keys, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	k := &keys{
		server:     "https://" + address,
		tokenFile:  in("tokens.csv"),
		servingKey: in("serving.key"), serving: in("serving.crt"),
		saKey: in("sa.key"), saPub: in("sa.pub"),
		kubeconfig: in("kubeconfig"),
	}
	if err := once(k.saKey, func() error { return k.makeServiceAccountKey() }); err != nil {
		return nil, err
	}
	if err := once(in("token"), func() error { return makeToken(in("token")) }); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(in("token"))
	if err != nil {
		return nil, err
	}
	k.token = string(token)
	row := k.token + ",admin,admin,\"system:masters\"\n"
	if err := os.WriteFile(k.tokenFile, []byte(row), 0o600); err != nil {
		return nil, err
	}
	ca, caPEM, err := k.makeServing(in("ca.key"), in("ca.crt"))
	if err != nil {
		return nil, err
	}
	k.ca = x509.NewCertPool()
	k.ca.AddCert(ca)
	return k, k.writeKubeconfig(caPEM)
}

// once runs make unless the file that it makes last exists.
func once(file string, make func() error) error {
	_, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return make()
	}
	return err
}

func (k *keys) makeServiceAccountKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(k.saPub, "PUBLIC KEY", public); err != nil {
		return err
	}
	return writePEM(k.saKey, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

func makeToken(file string) error {
	b := make([]byte, tokenBytes)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(hex.EncodeToString(b)), 0o600)
}

// makeServing makes the authority (once) and a serving certificate (every time).
func (k *keys) makeServing(caKeyFile, caFile string) (*x509.Certificate, []byte, error) {
	err := once(caFile, func() error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		template, err := certificate("golive control plane")
		if err != nil {
			return err
		}
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		if err := writeKey(caKeyFile, key); err != nil {
			return err
		}
		return writePEM(caFile, "CERTIFICATE", der)
	})
	if err != nil {
		return nil, nil, err
	}
	caPEM, err := os.ReadFile(caFile)
	if err != nil {
		return nil, nil, err
	}
	caBlock, _ := pem.Decode(caPEM)
	keyPEM, err := os.ReadFile(caKeyFile)
	if err != nil {
		return nil, nil, err
	}
	keyBlock, _ := pem.Decode(keyPEM)
	if caBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("%s or %s is damaged: remove the directory", caFile, caKeyFile)
	}
	ca, err := x509.ParseCertificate(caBlock.Bytes)
	if err != nil {
		return nil, nil, err
	}
	caKey, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, err
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := certificate("kube-apiserver")
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local",
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	if err := writeKey(k.servingKey, key); err != nil {
		return nil, nil, err
	}
	return ca, caPEM, writePEM(k.serving, "CERTIFICATE", der)
}

func certificate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(validity),
	}, nil
}

func (k *keys) writeKubeconfig(caPEM []byte) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: admin
  user:
    token: %s
contexts:
- name: local
  context:
    cluster: local
    user: admin
current-context: local
`, k.server, base64.StdEncoding.EncodeToString(caPEM), k.token)
	// Renamed into place: nobody reads half of it.
	part := k.kubeconfig + ".part"
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(part, k.kubeconfig)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
