package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// api sends a request and wants the status.
func api(b *testing.B, client *http.Client, method, path, body string, status int) (out struct{ ID string }) {
	b.Helper()
	req, err := http.NewRequestWithContext(bed.ctx, method, "http://d/v1.41"+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		b.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	said, err := io.ReadAll(resp.Body)
	if err == nil && status == http.StatusCreated {
		err = json.Unmarshal(said, &out)
	}
	if err != nil {
		b.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// fleet makes n containers, and starts them, and removes them at the end.
func fleet(b *testing.B, client *http.Client, n int, start bool) (ids []string) {
	b.Helper()
	b.Cleanup(func() {
		for _, id := range ids {
			api(b, client, "DELETE", "/containers/"+id+"?force=1", "", 204)
		}
	})
	for range n {
		id := api(b, client, "POST", "/containers/create", fmt.Sprintf(`{"Image":%q,"Cmd":["sleep","600"],"HostConfig":{"NetworkMode":"none"}}`, image("busybox")), 201).ID
		ids = append(ids, id)
		if start {
			api(b, client, "POST", "/containers/"+id+"/start", "", 204)
		}
	}
	return ids
}

// resident is the resident memory of a server of ours in MiB.
func resident(b *testing.B) float64 {
	if !bed.server.Owned {
		return 0
	}
	return float64(memoryOf(b, bed.server.Pid())) / (1 << 20)
}

// BenchmarkInfo also reports what brigd holds while it is idle.
func BenchmarkInfo(b *testing.B) {
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	idle := resident(b)
	for b.Loop() {
		api(b, client, "GET", "/info", "", 200)
	}
	b.ReportMetric(idle, "idle-MiB")
}

func BenchmarkList1000(b *testing.B) {
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	fleet(b, client, 1000, false)
	for b.Loop() {
		api(b, client, "GET", "/containers/json?all=1", "", 200)
	}
	b.ReportMetric(resident(b), "MiB")
}

// BenchmarkStats100 looks once at each of 100 running containers.
func BenchmarkStats100(b *testing.B) {
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	ids := fleet(b, client, 100, true)
	for b.Loop() {
		for _, id := range ids {
			api(b, client, "GET", "/containers/"+id+"/stats?stream=0&one-shot=1", "", 200)
		}
	}
	b.ReportMetric(resident(b), "MiB")
}
