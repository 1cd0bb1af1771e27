package registry

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestSpan(t *testing.T) {
	n := len(layer)
	honest := func(http.ResponseWriter, *http.Request) bool { return false }
	ranged := func(from, to, total int, body string) fault {
		return say(isLayer, 206, body, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, total))
	}
	for _, c := range []struct {
		name     string
		fault    fault
		from, to int64
		kind     errs.Kind
		want     string
		end      int64
	}{
		{"first", honest, 0, 5, 0, layer[:5], 5},
		{"middle", honest, 5, 9, 0, layer[5:9], 9},
		{"all", honest, 0, int64(n), 0, layer, int64(n)},
		{"no ranges, from the start", say(isLayer, 200, layer), 0, 5, 0, layer, int64(n)},
		{"no ranges, from the middle", say(isLayer, 200, layer), 5, 9, errs.NotImplemented, "", 0},
		{"another range", ranged(0, 4, n, layer[:4]), 5, 9, errs.Invalid, "", 0},
		{"a shorter range", ranged(5, 8, n, layer[5:8]), 5, 9, errs.Invalid, "", 0},
		{"another total", ranged(5, 9, 99, layer[5:9]), 5, 9, errs.Invalid, "", 0},
		{"more bytes than the range", ranged(5, 9, n, layer[5:]), 5, 9, errs.Invalid, "", 0},
		{"outside", honest, 5, int64(n) + 1, errs.Invalid, "", 0},
		{"nothing", honest, 5, 5, errs.Invalid, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t, Config{})
			remote, err := r.Resolve(t.Context(), faulty(t, c.fault)+"/app:1", "", brig.Auth{})
			if err != nil {
				t.Fatal(err)
			}
			body, end, err := r.Span(t.Context(), remote, remote.Layers[0], c.from, c.to)
			var got []byte
			if err == nil {
				defer body.Close()
				got, err = io.ReadAll(body)
			}
			if c.kind != 0 && errs.KindOf(err) == c.kind {
				return
			}
			if err != nil || string(got) != c.want || end != c.end {
				t.Errorf("got %q up to %d, %v (%v)", got, end, err, errs.KindOf(err))
			}
		})
	}
}

// TestStall has the registry stop before the headers, or between them and the last byte: an error says so, of a kind that is tried again.
func TestStall(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	for name, sent := range map[string]int{"no headers": -1, "no body": 0, "half": 5} {
		t.Run(name, func(t *testing.T) {
			host := faulty(t, func(w http.ResponseWriter, req *http.Request) bool {
				if !isLayer(req) {
					return false
				}
				if sent >= 0 {
					w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
					io.WriteString(w, layer[:sent])
					w.(http.Flusher).Flush()
				}
				select {
				case <-req.Context().Done():
				case <-over:
				}
				return true
			})
			r := newRegistry(t, Config{Stall: 300 * time.Millisecond})
			remote, err := r.Resolve(t.Context(), host+"/app:1", "", brig.Auth{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := readLayer(t, r, remote, 0, 0)
			if !errs.Is(err, errs.Unavailable) {
				t.Errorf("got %q, %v (%v)", got, err, errs.KindOf(err))
			}
		})
	}
}
