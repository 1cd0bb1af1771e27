package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/survivor"
)

var quiet = slog.New(slog.DiscardHandler)

// local is an address of this host that other tests hardly have.
func local() netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(256)), byte(1 + rand.IntN(250))})
}

// site is a publisher whose brig-mds is ended with the test.
type site struct {
	*Publisher
	t testing.TB
}

func openSite(t testing.TB, dir string) *site {
	t.Helper()
	self, err := os.Executable() // which is brig-mds too
	if err != nil {
		t.Fatal(err)
	}
	return openSiteOf(t, dir, self)
}

func openSiteOf(t testing.TB, dir, program string) *site {
	t.Helper()
	s := &site{Open(PublisherConfig{Dir: dir, Program: program, User: DefaultUser, Issuer: "brig:test", Log: quiet}), t}
	if s.broken != nil {
		t.Fatal(s.broken)
	}
	t.Cleanup(func() {
		s.Close()
		last := Open(s.cfg)
		if err := last.Sweep(context.Background(), nil); err != nil {
			t.Error("withdraw all:", err)
		}
		last.Close()
		s.gone()
		if b, _ := os.ReadFile(filepath.Join(dir, "run", survivor.LogName)); t.Failed() && len(b) > 0 {
			t.Logf("brig-mds's log:\n%s", b)
		}
	})
	return s
}

// gone waits for the end of brig-mds.
func (s *site) gone() {
	s.t.Helper()
	s.eventually("brig-mds ends", func() error {
		if pid := s.proc.Holder(); pid != 0 {
			return fmt.Errorf("pid %d", pid)
		}
		return nil
	})
}

func (s *site) eventually(what string, f func() error) {
	s.t.Helper()
	var err error
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: not within 30 s: %v", what, err)
}

// publish publishes a pod with one place, and returns its URL.
func (s *site) publish(uuid string, source, gateway netip.Addr) string {
	s.t.Helper()
	id := brig.PodIdentity{UUID: uuid, Apps: []brig.AppIdentity{{Name: "main"}}, Places: []brig.PodPlace{{Source: source, Gateway: gateway}}}
	if err := s.Publish(s.t.Context(), id); err != nil {
		s.t.Fatal(err)
	}
	return s.URL(uuid, gateway)
}

// client calls from an address.
func client(from netip.Addr) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 8}}
}

// uuidAt asks for the UUID, and returns it or what went wrong.
func uuidAt(c *http.Client, url string) string {
	resp, err := c.Get(url + "/acMetadata/v1/pod/uuid")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return resp.Status
	}
	return string(b)
}

func (s *site) want(c *http.Client, url, uuid string) {
	s.t.Helper()
	if got := uuidAt(c, url); got != uuid {
		s.t.Fatalf("%s answers %q, not %q", url, got, uuid)
	}
}

// A pod is answered once Publish has returned, at its gateway alone, and not any more once it is withdrawn.
func TestPublish(t *testing.T) {
	s := openSite(t, t.TempDir())
	gw, a, b := local(), local(), local()
	urlA := s.publish(uuidA, a, gw)
	s.want(client(a), urlA, uuidA)
	urlB := s.publish(uuidB, b, gw)
	s.want(client(b), urlB, uuidB)
	if got := uuidAt(client(b), urlA); got != "403 Forbidden" {
		t.Errorf("another pod with A's URL: %s", got)
	}
	// A stranger's connection ends without a byte.
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: local().AsSlice()}}).Dial("tcp", netip.AddrPortFrom(gw, Port).String())
	if err == nil {
		fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
		b, _ := io.ReadAll(c)
		c.Close()
		if len(b) > 0 {
			t.Errorf("a stranger got %q", b)
		}
	}
	if l, err := net.Listen("tcp", netip.AddrPortFrom(a, Port).String()); err != nil {
		t.Errorf("the service listens elsewhere too: %v", err)
	} else {
		l.Close()
	}
	if err := s.Withdraw(t.Context(), uuidA); err != nil {
		t.Fatal(err)
	}
	if got := uuidAt(client(a), urlA); strings.Contains(got, uuidA) {
		t.Error("a pod that was withdrawn is answered")
	}
	if err := s.Withdraw(t.Context(), uuidA); err != nil {
		t.Errorf("withdrawn twice: %v", err)
	}
	s.want(client(b), urlB, uuidB)
	if err := s.Withdraw(t.Context(), uuidB); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", netip.AddrPortFrom(gw, Port).String()); err == nil {
		c.Close()
		t.Error("it listens at a gateway that no pod has")
	}
	if s.proc.Holder() == 0 {
		t.Error("the next pod has to wait for a new process")
	}
	s.Close()
	s.gone()
}

// What serves is nobody: no root, no group, no capability, and a file system with nothing in it but what is published.
func TestRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("gives up root's rights")
	}
	s := openSite(t, t.TempDir())
	gw := local()
	s.want(client(gw), s.publish(uuidA, gw, gw), uuidA)
	pid := s.proc.Holder()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	uid, gid, err := owner(DefaultUser)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		fmt.Sprintf("Uid:\t%d\t%d\t%d\t%d", uid, uid, uid, uid), fmt.Sprintf("Gid:\t%d\t%d\t%d\t%d", gid, gid, gid, gid), fmt.Sprintf("Groups:\t%d ", gid),
		"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapInh:\t0000000000000000",
	} {
		if !strings.Contains(string(status), line+"\n") {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); at != s.path("pods") {
		t.Errorf("its root directory is %s, %v", at, err)
	}
	for name, mode := range map[string]fs.FileMode{"keys": 0o400, "pods": 0o750, "pods/" + uuidA + suffix: 0o640, "run": 0o700, "run/sock": 0o600, "run/access.log": 0o600} {
		st, err := os.Stat(s.path(name))
		if err != nil || st.Mode().Perm() != mode || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	// It refuses to be root.
	for _, who := range []string{"0:0", "0:1", "1:0", "-1:1"} {
		dir := t.TempDir()
		out, err := exec.Command(s.cfg.Program, survivor.DirFlag, dir, publishedFlag, dir, userFlag, who).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "does not serve as root") {
			t.Errorf("as %s: %v, %s", who, err, out)
		}
	}
}

// brig-mds answers while nobody publishes, and the next publisher takes it over with the same keys.
func TestServesWithoutPublisher(t *testing.T) {
	dir, gw := t.TempDir(), local()
	first := openSite(t, dir)
	url := first.publish(uuidA, gw, gw)
	pid := first.proc.Holder()
	signature := post(t, client(gw), url+"/acMetadata/v1/pod/hmac/sign", map[string]string{"content": "x"})
	first.Close()
	c := client(gw)
	first.want(c, url, uuidA)
	if err := first.Publish(t.Context(), brig.PodIdentity{UUID: uuidB, Places: []brig.PodPlace{{Source: gw, Gateway: gw}}}); err == nil {
		t.Error("a closed publisher publishes")
	}
	os.Remove(filepath.Join(dir, "pods", uuidB+suffix))
	second := openSite(t, dir)
	if second.URL(uuidA, gw) != url {
		t.Error("a pod has another URL by now")
	}
	if ok, err := second.VerifySignature(t.Context(), uuidA, signature, strings.NewReader("x")); !ok || err != nil {
		t.Errorf("verify: %v, %v", ok, err)
	}
	if ok, err := second.VerifySignature(t.Context(), uuidA, signature, strings.NewReader("y")); ok || err != nil {
		t.Errorf("verify something else: %v, %v", ok, err)
	}
	if _, err := second.VerifySignature(t.Context(), "x", signature, strings.NewReader("x")); err == nil {
		t.Error("x is a UUID")
	}
	if err := second.Sweep(t.Context(), []string{uuidA}); err != nil {
		t.Fatal(err)
	}
	second.want(c, url, uuidA)
	if second.proc.Holder() != pid {
		t.Error("it is another process")
	}
	if err := second.Rotate(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if now := post(t, c, url+"/acMetadata/v1/pod/hmac/sign", map[string]string{"content": "x"}); now == signature {
		t.Error("after a rotation the old key signs")
	}
	if got := post(t, c, url+"/acMetadata/v1/pod/hmac/verify", map[string]string{"content": "x", "uuid": uuidA, "signature": signature}); got != "OK\n" {
		t.Errorf("after a rotation an old signature: %q", got)
	}
	if third, err := LoadKeys(filepath.Join(dir, "keys")); err != nil || len(third.Sign) != 2 {
		t.Errorf("the keys that were saved: %v", err)
	}
	if err := second.Sweep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(filepath.Join(dir, "pods")); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

// With a root that is deleted while no brigd is there to know goes the process too: it would hold its gateways' port for nobody.
func TestDeletedRoot(t *testing.T) {
	dir, gw := filepath.Join(t.TempDir(), "r"), local()
	first := openSite(t, dir)
	url := first.publish(uuidA, gw, gw)
	first.Close()
	first.want(client(gw), url, uuidA)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		l, err := net.Listen("tcp", netip.AddrPortFrom(gw, Port).String())
		if err == nil {
			l.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("brig-mds still listens: ", err)
		}
	}
}

func post(t testing.TB, c *http.Client, to string, fields map[string]string) string {
	t.Helper()
	form := url.Values{}
	for k, v := range fields {
		form.Set(k, v)
	}
	resp, err := c.PostForm(to, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s", to, resp.Status, b)
	}
	return string(b)
}

// One that is killed is started again, and told its keys and pods.
func TestKilledServiceIsHealed(t *testing.T) {
	s, gw := openSite(t, t.TempDir()), local()
	url := s.publish(uuidA, gw, gw)
	for range 2 {
		pid := s.proc.Holder()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.eventually("another one answers", func() error {
			if now := s.proc.Holder(); now == 0 || now == pid {
				return errors.New("there is none")
			}
			if got := uuidAt(client(gw), url); got != uuidA {
				return errors.New(got)
			}
			return nil
		})
	}
}

// A gateway that isn't there, or a port that is taken, is named, and served as soon as it can be. Other pods don't mind.
func TestGatewayComesLate(t *testing.T) {
	s, gw, busy := openSite(t, t.TempDir()), local(), local()
	l, err := net.Listen("tcp", netip.AddrPortFrom(busy, Port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	id := brig.PodIdentity{UUID: uuidA, Places: []brig.PodPlace{{Source: busy, Gateway: busy}}}
	if err := s.Publish(t.Context(), id); err == nil || !strings.Contains(err.Error(), busy.String()) {
		t.Fatalf("publish where another program listens: %v", err)
	}
	if n := s.Notes(); len(n) != 1 || !strings.Contains(n[0], busy.String()) {
		t.Errorf("notes: %q", n)
	}
	id = brig.PodIdentity{UUID: uuidB, Places: []brig.PodPlace{{Source: gw, Gateway: gw}, {Source: netip.MustParseAddr("192.0.2.2"), Gateway: netip.MustParseAddr("192.0.2.1")}}}
	if err := s.Publish(t.Context(), id); err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Fatalf("publish at an address that isn't this host's: %v", err)
	}
	s.want(client(gw), s.URL(uuidB, gw), uuidB)
	l.Close()
	s.eventually("the pod is answered once the port is free", func() error {
		if got := uuidAt(client(busy), s.URL(uuidA, busy)); got != uuidA {
			return errors.New(got)
		}
		return nil
	})
	id.Places = id.Places[:1]
	if err := s.Publish(t.Context(), id); err != nil || s.Notes() != nil {
		t.Errorf("all is well, but %v, notes %q", err, s.Notes())
	}
}

func TestServiceThatCantBeStarted(t *testing.T) {
	p := Open(PublisherConfig{Dir: t.TempDir(), Program: "/nowhere/brig-mds", User: DefaultUser, Log: quiet})
	defer p.Close()
	gw := local()
	err := p.Publish(t.Context(), brig.PodIdentity{UUID: uuidA, Places: []brig.PodPlace{{Source: gw, Gateway: gw}}})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/brig-mds") || len(p.Notes()) != 1 {
		t.Errorf("%v, notes %q", err, p.Notes())
	}
	if err := p.Withdraw(t.Context(), uuidA); err != nil {
		t.Errorf("withdraw: %v", err)
	}
	if p.Publish(t.Context(), brig.PodIdentity{UUID: "../x"}) == nil {
		t.Error("a path is a UUID")
	}
	bad := Open(PublisherConfig{Dir: t.TempDir(), Program: "/nowhere/brig-mds", User: "nobody-of-that-name", Log: quiet})
	defer bad.Close()
	if bad.URL(uuidA, gw) != "" || len(bad.Notes()) != 1 || bad.Publish(t.Context(), brig.PodIdentity{UUID: uuidA}) == nil || bad.Withdraw(t.Context(), uuidA) != nil {
		t.Error("a service without its user seems to work")
	}
	if err := os.WriteFile(filepath.Join(p.cfg.Dir, "keys"), []byte(`{"Token":"AAAA"}`), 0o600); err != nil {
		os.Remove(filepath.Join(p.cfg.Dir, "keys"))
		t.Fatal(err)
	}
	short := Open(p.cfg)
	defer short.Close()
	if n := short.Notes(); len(n) != 1 || !strings.Contains(n[0], "missing or short") {
		t.Errorf("short keys: %q", n)
	}
}

func TestOwner(t *testing.T) {
	for who, want := range map[string][2]int{"123": {123, 123}, "123:45": {123, 45}, "nobody": {65534, 65534}} {
		if uid, gid, err := owner(who); err != nil || uid != want[0] || gid != want[1] {
			t.Errorf("%s: %d:%d, %v", who, uid, gid, err)
		}
	}
	for _, who := range []string{"0", "0:5", "5:0", "root", "-1", "x:y", "", "no-such-user"} {
		if uid, gid, err := owner(who); err == nil {
			t.Errorf("%s is %d:%d", who, uid, gid)
		}
	}
	if uid, gid, err := owner(DefaultUser); err != nil || uid < 1 || gid < 1 {
		t.Errorf("the default: %d:%d, %v", uid, gid, err)
	}
}
