package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// A publisher is a web server at an address of its own, on the port that discovery asks, with a certificate that nobody signed.
type publisher struct {
	host string // 127.x.y.z, which is a valid beginning of an ACI name
	cert string // path of the certificate
	mu   sync.Mutex
	file map[string][]byte // by path
}

func (p *publisher) put(path string, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file[path] = b
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	b, ok := p.file[r.URL.Path]
	p.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(b)
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	p := &publisher{file: map[string][]byte{}}
	for range 20 { // somebody else's test may have the address
		p.host = fmt.Sprintf("127.%d.%d.%d", 64+mrand.IntN(128), mrand.IntN(250)+1, mrand.IntN(250)+1)
		loopback(t, p.host)
		if l, err = net.Listen("tcp", p.host+":443"); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: p.host}, IPAddresses: []net.IP{net.ParseIP(p.host)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p.cert = tempFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	srv := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close(); <-done })
	return p
}

// strict starts a brigd that takes no unsigned ACIs and believes the certificate, and returns it with a function that runs brig on it.
func strict(t *testing.T, name, cert string) (*testbed.Server, func(args ...string) (string, bool)) {
	t.Helper()
	dir := filepath.Join(bed.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", cert)
	s := testbed.NewServer(bed.bin, dir, "--unsigned-acis", "none")
	ctx, cancel := context.WithTimeout(bed.ctx, time.Minute)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	})
	return s, func(args ...string) (string, bool) {
		out, err := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), append([]string{"--host", s.Host}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err == nil
	}
}

func pgpKey(t *testing.T, name string) (e *openpgp.Entity, public []byte) {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return e, b.Bytes()
}

func pgpSign(t *testing.T, e *openpgp.Entity, b []byte) []byte {
	t.Helper()
	var sig bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&sig, []*openpgp.Entity{e}, bytes.NewReader(b), &openpgp.SignParams{}); err != nil {
		t.Fatal(err)
	}
	return sig.Bytes()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSignedACIs goes from nothing to a container: an image named on the command line, found, verified and run, with what it depends on.
func TestSignedACIs(t *testing.T) {
	own(t)
	web := newPublisher(t)
	server, brig := strict(t, "sig", web.cert)
	want := func(good bool, words string, args ...string) string {
		t.Helper()
		out, ok := brig(args...)
		equal(t, strings.Join(args, " ")+" succeeds", ok, good)
		match(t, strings.Join(args, " "), out, words)
		return out
	}
	alice, public := pgpKey(t, "alice")
	mallory, _ := pgpKey(t, "mallory")
	fingerprint := hex.EncodeToString(alice.PrimaryKey.Fingerprint)
	shell := readFile(t, images.Busybox())
	manifest := func(name, rest string) string {
		return fmt.Sprintf(`{"acKind":"ImageManifest","acVersion":"0.8.11","name":"%s/%s","labels":[{"name":"version","value":"1"}]%s}`, web.host, name, rest)
	}
	base := aciOf(t, manifest("base", ""), map[string]string{"rootfs/bin/sh": string(shell)})
	app := aciOf(t, manifest("app", `,"app":{"exec":["/bin/sh","-c","echo ahoy"],"user":"0","group":"0"},"dependencies":[{"imageName":"`+web.host+`/base","labels":[{"name":"version","value":"1"}]}]`),
		map[string]string{"rootfs/x": "x"})
	for name, path := range map[string]string{"base": base, "app": app} {
		b := readFile(t, path)
		web.put("/acis/"+web.host+"/"+name+"-1.aci", b)
		web.put("/acis/"+web.host+"/"+name+"-1.aci.asc", pgpSign(t, alice, b))
	}
	web.put("/", []byte(`<meta name="ac-discovery" content="`+web.host+` https://`+web.host+`/acis/{name}-{version}.{ext}">
		<meta name="ac-discovery-pubkeys" content="`+web.host+` https://`+web.host+`/keys">`))
	web.put("/keys", public)

	want(false, "a key that is not trusted", "image", "import", web.host+"/app:1")
	want(true, "(?s)key "+fingerprint+".*alice@example.com", "trust", "--prefix", web.host, "--yes")
	want(true, web.host+" +"+fingerprint+" +alice", "trust", "list")
	want(true, "(?s)signed by "+fingerprint+" alice.*sha512-[0-9a-f]{128} "+web.host+"/app:1$", "image", "import", web.host+"/app:1")
	cli := testbed.CLI{Host: server.Host, Config: bed.cli.Config}
	r := dockerOn(t, cli, strings.NewReader(""), "run", "--rm", web.host+"/app:1")
	equal(t, "run", r.Out, "ahoy\n")
	want(true, "app:1$", "image", "import", "-q", "https://"+web.host+"/acis/"+web.host+"/app-1.aci")

	want(false, "404", "image", "import", web.host+"/app:2")
	want(false, "plain http", "image", "import", "http://"+web.host+"/acis/x.aci")
	want(false, "takes no unsigned ACIs", "image", "import", base)
	sig := tempFile(t, "sig", string(pgpSign(t, mallory, readFile(t, base))))
	want(false, "not trusted", "image", "import", "--signature", sig, base)
	if err := os.WriteFile(base+".asc", pgpSign(t, alice, readFile(t, base)), 0o600); err != nil {
		t.Fatal(err)
	}
	want(true, "signed by "+fingerprint, "image", "import", base)
	web.put("/acis/"+web.host+"/app-1.aci", readFile(t, base)) // swapped by somebody on the server
	want(false, "is bad", "image", "import", web.host+"/app:1")

	want(true, "", "untrust", "--prefix", web.host, fingerprint)
	want(false, "not trusted", "image", "import", base)
	if left, err := os.ReadDir(filepath.Join(server.Root, "spool", "load")); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// TestExportLayered compares brigd's ACIs of one layer each with those that brig convert makes without it, and with another brigd's.
func TestExportLayered(t *testing.T) {
	own(t)
	ref := image("layers:latest")
	dir := t.TempDir()
	export := func(run func(...string) (string, bool), name string) string {
		t.Helper()
		out, good := run("image", "export", "--layered", ref, filepath.Join(dir, name))
		if !good {
			t.Fatal(out)
		}
		return strings.ReplaceAll(out, filepath.Join(dir, name), "DIR")
	}
	here := func(args ...string) (string, bool) { return brigRun(t, args...) }
	first := export(here, "a")
	equal(t, "ACIs", strings.Count(first, "sha512-"), 4)
	equal(t, "again", export(here, "b"), first)
	made := strings.Join(converted(t, "--nosquash", "docker://"+ref, filepath.Join(dir, "c")), "\n")
	equal(t, "without brigd", strings.ReplaceAll(made, filepath.Join(dir, "c"), "DIR"), first)

	other, brig := strict(t, "exp", "")
	if r := dockerOn(t, testbed.CLI{Host: other.Host, Config: bed.cli.Config}, strings.NewReader(""), "pull", "-q", ref); r.Code != 0 {
		t.Fatal(r)
	}
	equal(t, "another brigd's", export(brig, "d"), first)

	t.Cleanup(func() { ok(t, "pull", "-q", ref) }) // the import takes its name over
	name := ""
	for line := range strings.Lines(first) {
		id, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		var got string
		got, name = imported(t, strings.Replace(path, "DIR", filepath.Join(dir, "a"), 1))
		equal(t, "ID", got, id)
	}
	equal(t, "run", ok(t, "run", "--rm", name, "sh", "-c", "cat /data/b; ls -d /data/* /gone/new"), "b2/data/b\n/gone/new")
	small := filepath.Join(dir, "small.aci.zst")
	out, good := brigRun(t, "image", "export", "--compress", "zstd", ref, small)
	if b := readFile(t, small); !good || !bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		t.Errorf("%s: %x", out, b[:4])
	}
}

// TestConvertLogsIn converts from a registry that asks for a password.
func TestConvertLogsIn(t *testing.T) {
	own(t)
	reg, err := startRegistry(bed.ctx, fresh("private"), "sailor", "secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	config := t.TempDir()
	cli := testbed.CLI{Host: bed.server.Host, Config: config}
	ref := reg.Addr + "/crew/busybox:1"
	for _, args := range [][]string{{"login", "-u", "sailor", "--password-stdin", reg.Addr}, {"tag", image("busybox:latest"), ref}, {"push", "-q", ref}, {"rmi", ref}} {
		if r := dockerOn(t, cli, strings.NewReader("secret"), args...); r.Code != 0 {
			t.Fatal(r)
		}
	}
	out := filepath.Join(t.TempDir(), "x.aci")
	id := converted(t, "--config", config, "docker://"+ref, out)[0]
	equal(t, "compressed", converted(t, "--config", config, "--compression", "gzip", "docker://"+ref, out)[0], id)
	match(t, "gzip", string(readFile(t, out)[:2]), "^\x1f")
	said, good := brigRun(t, "convert", "--config", t.TempDir(), "docker://"+ref, out)
	equal(t, "without a login", good, false)
	match(t, "without a login", said, "config.json|unauthorized|credentials")
	cmd := exec.CommandContext(t.Context(), filepath.Join(bed.bin, "brig"), "convert", "-u", "sailor", "--password-stdin", "docker://"+ref)
	cmd.Stdin, cmd.Dir = strings.NewReader("secret\n"), t.TempDir()
	b, err := cmd.CombinedOutput()
	equal(t, "by name", strings.TrimSpace(string(b)), id+" crew-busybox-1.aci")
	if _, serr := os.Stat(filepath.Join(cmd.Dir, "crew-busybox-1.aci")); err != nil || serr != nil {
		t.Error(err, serr)
	}
}
