package metadata

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// BenchmarkService has 16 pods ask brig-mds, a process of its own, for signatures, each one request after the other on a connection that
// stays. It reports the time of most requests and of the slowest, and what brig-mds has in memory then.
func BenchmarkService(b *testing.B) {
	const pods = 16
	s, gw := openSite(b, b.TempDir()), local()
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
					resp, err := clients[i].Post(urls[i], "application/x-www-form-urlencoded", strings.NewReader("content=Old+MacDonald+Had+A+Farm"))
					if err != nil {
						b.Error(err)
						return
					}
					if resp.StatusCode != http.StatusOK {
						b.Error(resp.Status)
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
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
