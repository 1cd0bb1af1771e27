package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// certificates writes ca.pem, cert.pem and key.pem into a new folder, as docker wants them: a certificate for both ends of 127.0.0.1.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: caDER}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The docker command over mutual TLS, beside the Unix socket: commands, streams, half-closed input and a terminal's end.
func TestTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "tcp://" + l.Addr().String()
	l.Close()
	ours, others := certificates(t), certificates(t)
	_, local := daemon(t, "--host", addr, "--tlsverify", "--tlscacert", ours+"/ca.pem", "--tlscert", ours+"/cert.pem", "--tlskey", ours+"/key.pem")
	cli := testbed.CLI{Host: addr, Config: local.Config, Env: []string{"DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + ours}}
	equal(t, "by both hosts", done(t, cli, "info", "-f", "{{.ID}}"), done(t, local, "info", "-f", "{{.ID}}"))
	r := dockerOn(t, cli, strings.NewReader(strings.Repeat("x", 50_000)), "run", "--rm", "-i", image("busybox"), "wc", "-c")
	equal(t, "run -i", strings.TrimSpace(r.Out), "50000")
	id := done(t, cli, "run", "-d", image("busybox"), "sh", "-c", "echo hello; sleep 600")
	equal(t, "exec", done(t, cli, "exec", id, "echo", "in"), "in")
	flags := []string{"--tlsverify", "--tlscacert", ours + "/ca.pem", "--tlscert", ours + "/cert.pem", "--tlskey", ours + "/key.pem"}
	equal(t, "flags", done(t, testbed.CLI{Host: addr, Config: local.Config}, append(flags, "logs", id)...), "hello")
	for name, args := range map[string][]string{
		"no certificate":          {"--tls", "--tlscacert", ours + "/ca.pem"},
		"of another authority":    {"--tlsverify", "--tlscacert", ours + "/ca.pem", "--tlscert", others + "/cert.pem", "--tlskey", others + "/key.pem"},
		"the server is not known": {"--tlsverify", "--tlscacert", others + "/ca.pem", "--tlscert", ours + "/cert.pem", "--tlskey", ours + "/key.pem"},
		"no TLS":                  nil,
	} {
		if r := dockerOn(t, testbed.CLI{Host: addr, Config: local.Config}, nil, append(args, "ps", "-q")...); r.Code == 0 {
			t.Errorf("%s: %s", name, r)
		}
	}
}
