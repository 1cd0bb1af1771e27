package integration

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// A meter is a proxy before the suite's registry. It counts the bytes of blobs that it hands on, slowly enough to be interrupted
// at a byte.
type meter struct {
	addr string

	mu    sync.Mutex
	sent  int64
	at    int64         // reached is closed when sent is this; 0: never
	reach chan struct{} // closed
	held  string        // the digest of a blob that isn't handed on; "": none

	frozen bool // from the alarm to the next one, nothing is handed on: what comes before the kill is not brigd's loss
}

const (
	meterRate = 48 << 20 // bytes a second
	// inFlight bounds what is lost at a kill: what the sockets of three ranges held, whose buffers the kernel lets grow to 6 MiB each
	// (tcp(7), tcp_rmem) and which were seen to hold 3.5 together.
	inFlight = 6 << 20
)

func newMeter(t *testing.T) *meter {
	t.Helper()
	m := &meter{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: bed.reg})
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/blobs/") {
			r.Body = &metered{r.Body, m, r.Request}
		}
		return nil
	}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // brigd was killed
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	s := httptest.NewUnstartedServer(proxy)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return ctx
	}
	s.Start()
	t.Cleanup(s.Close)
	m.addr = strings.TrimPrefix(s.URL, "http://")
	return m
}

// metered is one blob's body.
type metered struct {
	io.ReadCloser
	m *meter
	r *http.Request
}

func (b *metered) Read(p []byte) (int, error) {
	b.m.mu.Lock()
	stop := b.m.frozen || b.m.held != "" && strings.HasSuffix(b.r.URL.Path, b.m.held)
	b.m.mu.Unlock()
	if stop {
		<-b.r.Context().Done()
		return 0, b.r.Context().Err()
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 32<<10)])
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	time.Sleep(time.Duration(n) * time.Second / meterRate)
	b.m.sent += int64(n)
	if b.m.at > 0 && b.m.sent >= b.m.at {
		close(b.m.reach)
		b.m.at, b.m.frozen = 0, true
	}
	return n, err
}

func (m *meter) count() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// hold keeps a blob back from the next request on; "" lets all through.
func (m *meter) hold(digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held, m.frozen = digest, false
}

// alarm returns a channel that is closed when n further bytes have been handed on.
func (m *meter) alarm(n int64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at, m.reach, m.frozen = m.sent+n, make(chan struct{}), false
	return m.reach
}

// A heavy is an image with one layer that is fetched in ranges, behind a meter, and a brigd to pull it.
type heavy struct {
	*meter
	s    *testbed.Server
	cli  testbed.CLI
	name string
	sum  string // of the file /heavy
	last v1.Hash
	hex  string // of the large layer
	size int64  // of it
	rng  *rand.Rand
}

func newHeavy(t *testing.T, args ...string) *heavy {
	t.Helper()
	own(t)
	seed := rand.Uint64N(1 << 24)
	t.Logf("seed %d", seed)
	h := &heavy{meter: newMeter(t), rng: rand.New(rand.NewPCG(seed, 0))}
	img, sum, large, last, err := images.Heavy(64<<20+12345, seed)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := img.LayerByDigest(large)
	if err == nil {
		h.size, err = layer.Size()
	}
	if err != nil {
		t.Fatal(err)
	}
	tag := fresh("heavy")
	if err := (images.Set{tag + ":latest": img}).Push(bed.ctx, bed.reg, nil); err != nil {
		t.Fatal(err)
	}
	h.name, h.sum, h.last, h.hex = h.addr+"/"+tag, sum, last, large.Hex
	h.s, h.cli = daemon(t, args...)
	return h
}

func (h *heavy) part() string { return filepath.Join(h.s.Root, "blobs", "parts", h.hex) }

// killAfter begins a pull, kills brigd once n further bytes have come, and starts it again.
func (h *heavy) killAfter(t *testing.T, n int64) {
	t.Helper()
	h.killWhen(t, h.alarm(n))
}

func (h *heavy) killWhen(t *testing.T, when <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	pull := h.cli.Command(ctx, "pull", "-q", h.name)
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-when:
	case <-ctx.Done():
		t.Error("the pull didn't get so far")
	}
	h.s.Kill()
	pull.Wait()
	start(t, h.s)
	h.clean(t)
}

// clean checks that nothing of the pull is left but parts of blobs.
func (h *heavy) clean(t *testing.T) {
	t.Helper()
	out, code := brigOn(t, h.s.Host, "doctor", "--deep")
	if code != 0 || !strings.Contains(out, "all is well") {
		t.Errorf("brig doctor: exit code %d\n%s", code, out)
	}
	out, _ = brigOn(t, h.s.Host, "gc", "--dry-run")
	if want := "would remove 0 layers (0B, 0 bytes), 0 blobs (0B, 0 bytes), 0 leftovers, "; !strings.HasPrefix(out, want) {
		t.Errorf("brig gc --dry-run: %s", out)
	}
	for _, dir := range []string{"blobs/tmp", "spool/load"} {
		if left, err := os.ReadDir(filepath.Join(h.s.Root, dir)); err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
	if blobs, err := os.ReadDir(filepath.Join(h.s.Root, "blobs", "sha256")); err != nil || len(blobs) != 4 { // busybox: config, manifest, ACI, layer
		t.Errorf("%d blobs, %v", len(blobs), err)
	}
	equal(t, "images", done(t, h.cli, "images", "--format", "{{.Repository}}"), image("busybox"))
}

// whole pulls the image and runs it. At most that many bytes may come.
func (h *heavy) whole(t *testing.T, most int64) {
	t.Helper()
	h.hold("")
	before := h.count()
	done(t, h.cli, "pull", "-q", h.name)
	if came := h.count() - before; came > most {
		t.Errorf("%d bytes came, want at most %d", came, most)
	}
	equal(t, "the file", done(t, h.cli, "run", "--rm", h.name, "sha256sum", "heavy"), h.sum+"  heavy")
	if left, err := os.ReadDir(filepath.Join(h.s.Root, "blobs", "parts")); err != nil || len(left) > 0 {
		t.Errorf("of the downloads stay %v, %v", left, err)
	}
}

// A pull that is killed again and again goes on where it was: every byte comes once, but for what was under way.
func TestKilledPullGoesOn(t *testing.T) {
	h := newHeavy(t)
	var at []int64
	for range 3 {
		at = append(at, 1<<20+h.rng.Int64N(h.size-8<<20))
	}
	slices.Sort(at)
	t.Logf("killed at %v of %d bytes", at, h.size)
	last := int64(0)
	for _, n := range at {
		h.killAfter(t, max(n-last, 1<<20))
		last = n
	}
	// Once more when the large layer is whole and another isn't there yet.
	h.hold(h.last.String())
	arrived, over := make(chan struct{}), make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			if _, err := os.Stat(filepath.Join(h.s.Root, "blobs", "sha256", h.hex)); err == nil {
				close(arrived)
				return
			}
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	h.killWhen(t, arrived)
	close(over)
	watch.Wait()
	if total, most := h.count(), h.size+3*inFlight+(1<<20); total > most {
		t.Errorf("until the large layer was whole %d bytes came, want at most %d", total, most)
	}
	h.whole(t, 4<<20) // the small ones
	t.Logf("%d bytes came of a layer of %d", h.count(), h.size)
}

// A byte that has rotted in a part makes a pull begin anew, and right.
func TestRottenPart(t *testing.T) {
	h := newHeavy(t)
	h.killAfter(t, 24<<20)
	f, err := os.OpenFile(h.part(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	at := 1<<20 + h.rng.Int64N(1<<20)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	h.whole(t, 2*h.size)
}

// What a pull has left goes in time with a start, and at once with brig gc.
func TestPartsAreCollected(t *testing.T) {
	h := newHeavy(t, "--keep-partial", "2")
	h.killAfter(t, 16<<20)
	if _, err := os.Stat(h.part()); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(h.part(), old, old); err != nil {
		t.Fatal(err)
	}
	h.s.Kill()
	start(t, h.s)
	h.gone(t)
	h.killAfter(t, 16<<20)
	st, err := os.Stat(h.part())
	if err != nil {
		t.Fatal(err)
	}
	counted := fmt.Sprintf("%d bytes)\n", st.Size())
	for _, c := range [][]string{{"would remove", "gc", "--dry-run"}, {"removed", "gc"}} {
		out, code := brigOn(t, h.s.Host, c[1:]...)
		if code != 0 || !strings.HasPrefix(out, c[0]) || !strings.Contains(out, " unfinished downloads (") || !strings.HasSuffix(out, counted) {
			t.Errorf("brig %v: exit code %d, %s; want %s", c[1:], code, out, counted)
		}
	}
	h.gone(t)
}

func (h *heavy) gone(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Join(h.s.Root, "blobs", "parts")); err != nil || len(left) > 0 {
		t.Errorf("of the downloads stay %v, %v", left, err)
	}
}
