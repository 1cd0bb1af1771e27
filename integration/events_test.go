package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// heard is what a client of /events has been sent. It listens until brigd ends.
func heard(t *testing.T, s *testbed.Server, into *[]string) (wait func()) {
	t.Helper()
	req, err := http.NewRequestWithContext(bed.ctx, http.MethodGet, "http://d/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := testbed.Client(s.Host)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for in := bufio.NewReader(resp.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil { // a torn line is none
				return
			}
			*into = append(*into, strings.TrimSpace(line))
		}
	}()
	return func() { <-ended; resp.Body.Close(); client.CloseIdleConnections() }
}

// However brigd ends, the next one knows each event that a client was told of: once, and in the same order.
func TestEventsOutliveBrigd(t *testing.T) {
	s, cli := daemon(t)
	started := time.Now().Add(-time.Hour)
	var told []string
	for life, end := range []func(){s.Kill, func() { s.Stop() }, s.Kill} {
		wait := heard(t, s, &told)
		ctx, cancel := context.WithCancel(bed.ctx)
		var busy sync.WaitGroup
		for n := range 2 { // something is under way when the end comes
			busy.Go(func() {
				for i := 0; i < 150 && ctx.Err() == nil; i++ { // the history has room for them all
					cli.Run(ctx, nil, "tag", image("busybox"), fmt.Sprintf("ev%d:%d", n, i%5))
				}
			})
		}
		done(t, cli, "run", "--rm", "--name", fmt.Sprint("life", life), image("busybox"), "true")
		end()
		wait()
		cancel()
		busy.Wait()
		start(t, s)
	}
	done(t, cli, "tag", image("busybox"), "last:1")
	past := strings.Split(done(t, cli, "events", "--since", started.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano), "--format", "{{json .}}"), "\n")
	var keys []string
	for _, line := range past {
		keys = append(keys, eventKey(t, line))
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(keys)))); n != len(keys) {
		t.Errorf("of %d events %d are doubled", len(keys), len(keys)-n)
	}
	if len(told) < 30 {
		t.Errorf("only %d events came", len(told))
	}
	at := 0
	for _, line := range told {
		n := slices.Index(keys[at:], eventKey(t, line))
		if n < 0 {
			t.Fatalf("lost, or in another order: %s", line)
		}
		at += n + 1
	}
	match(t, "the last one", past[len(past)-1], "last:1")
	match(t, "pull", past[0], `"pull"`)
}

// eventKey is what makes an event the same.
func eventKey(t *testing.T, line string) string {
	t.Helper()
	var e struct {
		Type, Action string
		Actor        struct {
			ID         string
			Attributes map[string]string
		}
		TimeNano int64
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return fmt.Sprint(e.TimeNano, e.Type, e.Action, e.Actor.ID, e.Actor.Attributes)
}
