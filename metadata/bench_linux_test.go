package metadata

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// BenchmarkService has 16 pods ask brig-mds, the real program in a process of its own, for signatures, each one request after the other on a
// connection that stays. It reports the time of most requests and of the slowest, and what brig-mds has in memory then; and once more in
// a crowd of as many connections as it takes, while large bodies come in.
func BenchmarkService(b *testing.B) {
	const pods = 16
	program := filepath.Join(b.TempDir(), "brig-mds")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "../cmd/brig-mds")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	s, gw := openSiteOf(b, b.TempDir(), program), local()
	var clients [pods]*http.Client
	var urls [pods]string
	for i := range pods {
		source := netip.AddrFrom4([4]byte{127, 254, 0, byte(1 + i)})
		id := brig.PodIdentity{UUID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), Places: []brig.PodPlace{{Source: source, Gateway: gw}}}
		if err := s.Publish(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		clients[i], urls[i] = client(source), s.URL(id.UUID, gw)+"/acMetadata/v1/pod/hmac/sign"
	}
	var took [pods][]time.Duration
	for b.Loop() {
		var wg sync.WaitGroup
		began := time.Now()
		for i := range pods {
			wg.Go(func() {
				for range 1000 {
					at := time.Now()
					sign(b, clients[i], urls[i], "Old+MacDonald+Had+A+Farm", http.StatusOK)
					took[i] = append(took[i], time.Since(at))
				}
			})
		}
		wg.Wait()
		b.ReportMetric(pods*1000/time.Since(began).Seconds(), "signatures/s")
	}
	all := slices.Concat(took[:]...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1e3, "p99-ms")
	b.ReportMetric(float64(all[len(all)-1].Microseconds())/1e3, "max-ms")
	b.ReportMetric(rss(b, s.proc.Holder()), "MiB")

	large := strings.Repeat("x", maxBody-100)
	var crowd sync.WaitGroup
	for i := range pods {
		clients[i].Transport.(*http.Transport).MaxIdleConnsPerHost = maxConns
		for range maxConns / pods {
			crowd.Go(func() {
				for range 20 {
					sign(b, clients[i], urls[i], "x", 0) // not all are let in
				}
			})
		}
		crowd.Go(func() { sign(b, clients[i], urls[i], large, 0) })
	}
	crowd.Wait()
	b.ReportMetric(rss(b, s.proc.Holder()), "crowd-MiB")
}

// BenchmarkPublish publishes a pod, which brig-mds answers then, and withdraws it, beside another one at the same gateway.
func BenchmarkPublish(b *testing.B) {
	s, gw := openSite(b, b.TempDir()), local()
	s.publish(uuidB, local(), gw)
	id := brig.PodIdentity{UUID: uuidA, Places: []brig.PodPlace{{Source: local(), Gateway: gw}}}
	for b.Loop() {
		if err := s.Publish(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		if err := s.Withdraw(b.Context(), uuidA); err != nil {
			b.Fatal(err)
		}
	}
}

// sign asks for a signature of content, and wants an answer with that status; 0: any, or none.
func sign(b *testing.B, c *http.Client, url, content string, status int) {
	resp, err := c.Post(url, "application/x-www-form-urlencoded", strings.NewReader("content="+content))
	if err != nil {
		if status != 0 {
			b.Error(err)
		}
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || status != 0 && resp.StatusCode != status {
		b.Error(resp.Status, err)
	}
}

// rss is what a process has in memory, in MiB.
func rss(b testing.TB, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
