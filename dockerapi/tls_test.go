package dockerapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue signs a certificate for 127.0.0.1 that is good until then, and writes it and its key beside each other.
func (a *authority) issue(t *testing.T, until time.Time, usage x509.ExtKeyUsage) (cert, key string) {
	t.Helper()
	k := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "EC PRIVATE KEY", kder)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMutualTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert, key := ours.issue(t, soon, x509.ExtKeyUsageServerAuth)
	ca := writePEM(t, "CERTIFICATE", ours.cert.Raw)
	conf, err := MutualTLS(ca, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), silent, "tcp://127.0.0.1:0", "", conf)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if checkAccess(r) != nil {
			w.WriteHeader(http.StatusForbidden)
		}
	})}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	defer func() { srv.Close(); <-done }()
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	for _, c := range []struct {
		name    string
		by      *authority // nil: no certificate
		until   time.Time
		usage   x509.ExtKeyUsage
		maximum uint16
		good    bool
	}{
		{"right", ours, soon, x509.ExtKeyUsageClientAuth, 0, true},
		{"right, TLS 1.2", ours, soon, x509.ExtKeyUsageClientAuth, tls.VersionTLS12, true},
		{"TLS 1.1", ours, soon, x509.ExtKeyUsageClientAuth, tls.VersionTLS11, false},
		{"none", nil, soon, 0, 0, false},
		{"of another authority", others, soon, x509.ExtKeyUsageClientAuth, 0, false},
		{"expired", ours, time.Now().Add(-time.Hour), x509.ExtKeyUsageClientAuth, 0, false},
		{"of a server", ours, soon, x509.ExtKeyUsageServerAuth, 0, false},
	} {
		cc := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: c.maximum}
		if c.by != nil {
			cert, key := c.by.issue(t, c.until, c.usage)
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			// Sent whatever authorities the server names.
			cc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: cc, DisableKeepAlives: true}}
		resp, err := client.Get("https://" + l.Addr().String() + "/_ping")
		if err == nil {
			resp.Body.Close()
		}
		if good := err == nil && resp.StatusCode == http.StatusOK; good != c.good {
			t.Errorf("%s: %v, %v", c.name, resp, err)
		}
	}
	if resp, err := http.Get("http://" + l.Addr().String() + "/_ping"); err == nil {
		if resp.Body.Close(); resp.StatusCode == http.StatusOK {
			t.Error("an answer without TLS")
		}
	}
}

func TestMutualTLSRefuses(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue(t, time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	ca := writePEM(t, "CERTIFICATE", a.cert.Raw)
	for _, f := range [][3]string{{"/no/such", cert, key}, {key, cert, key}, {ca, "/no/such", key}, {ca, cert, "/no/such"}, {ca, cert, cert}} {
		if _, err := MutualTLS(f[0], f[1], f[2]); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", f, err)
		}
	}
	conf, err := MutualTLS(ca, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), silent, "tcp://0.0.0.0:0", "", conf) // with certificates, anywhere
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
