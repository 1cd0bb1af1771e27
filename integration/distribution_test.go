package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestDistribution(t *testing.T) {
	own(t)
	digest, _ := manifestAt(t, bed.reg, "layers", "latest")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(bed.server.Host, "unix://"))
	}}}
	defer client.CloseIdleConnections()
	for name, want := range map[string]string{"layers": `"digest":"` + digest + `"`, "multi": `"architecture":"arm64"`} {
		resp, err := client.Get("http://brig/v1.41/distribution/" + image(name) + "/json")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s %v %s, want %s", name, resp.Status, err, b, want)
		}
	}
}
