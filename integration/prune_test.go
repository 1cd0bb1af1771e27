package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// usage is what docker system df reads.
type usage struct {
	LayersSize int64
	Images     []struct {
		ID         string `json:"Id"`
		Size       int64
		SharedSize int64
		Containers int64
	}
	Containers []struct {
		ID     string `json:"Id"`
		SizeRw int64
	}
	Volumes []struct {
		Name      string
		UsageData struct{ Size, RefCount int64 }
	}
}

func diskUsage(t *testing.T) usage {
	t.Helper()
	client := testbed.Client(bed.server.Host)
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://d/v1.41/system/df")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var u usage
	if err := json.NewDecoder(resp.Body).Decode(&u); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return u
}

func TestDiskUsage(t *testing.T) {
	vol := fresh("dfvol")
	ok(t, "volume", "create", vol)
	defer docker(t, "volume", "rm", "-f", vol)
	ok(t, "run", "--rm", "-v", vol+":/v", image("busybox"), "sh", "-c", "dd if=/dev/zero of=/v/a bs=1k count=100; ln /v/a /v/b; mkdir /v/d; ln -s xyz /v/d/l")
	id := made(t, ok(t, "create", "-v", vol+":/v", image("busybox"), "sh", "-c", "dd if=/dev/zero of=/big bs=1k count=50"))
	ok(t, "start", "-a", id)
	name := fresh("df")
	ok(t, "commit", id, name)
	defer docker(t, "rmi", "-f", name)
	u := diskUsage(t)
	for _, v := range u.Volumes {
		if v.Name == vol {
			equal(t, "volume", v.UsageData.Size, 100<<10+3)
			equal(t, "its users", v.UsageData.RefCount, 1)
		}
	}
	for _, c := range u.Containers {
		if c.ID == id {
			equal(t, "container", c.SizeRw, 50<<10)
		}
	}
	base := inspect(t, image("busybox"), "{{.Size}}")
	found := false
	for _, i := range u.Images {
		if i.ID == inspect(t, name, "{{.Id}}") {
			found = true
			equal(t, "unique size", i.Size-i.SharedSize, 50<<10)
			match(t, "shared size", base, "^"+jsonOf(t, i.SharedSize)+"$")
		}
	}
	equal(t, "the image is there", found, true)
	match(t, "table", ok(t, "system", "df", "-v"), vol+` +1 +102\.4kB`)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPruneImages(t *testing.T) {
	id := made(t, ok(t, "create", "--label", "prune=yes", image("busybox"), "sh", "-c", "head -c 30 /dev/urandom >/n; dd if=/dev/zero of=/big bs=1k count=30"))
	ok(t, "start", "-a", id)
	name := fresh("pruned")
	first := ok(t, "commit", id, name)
	ok(t, "start", "-a", id)
	second := ok(t, "commit", id, name)
	defer docker(t, "rmi", "-f", name)
	equal(t, "dangling", ok(t, "images", "-q", "--no-trunc", "--filter", "dangling=true", "--filter", "label=prune"), first)
	equal(t, "label", ok(t, "image", "prune", "-f", "--filter", "label=nosuch"), "Total reclaimed space: 0B")
	equal(t, "label!", ok(t, "image", "prune", "-f", "--filter", "label!=prune"), "Total reclaimed space: 0B")
	equal(t, "until", ok(t, "image", "prune", "-f", "--filter", "until=1h"), "Total reclaimed space: 0B")
	fails(t, 1, "(?i)invalid filter 'nosuch'", "image", "prune", "-f", "--filter", "nosuch=x")
	fails(t, 1, `failed to parse value as time or duration: "nonsense"`, "image", "prune", "-f", "--filter", "until=nonsense")
	since := time.Now()
	out := ok(t, "image", "prune", "-f", "--filter", "label=prune=yes")
	match(t, "prune", out, `(?s)^Deleted Images:\ndeleted: `+first+`\ndeleted: sha256:[0-9a-f]{64}\n\nTotal reclaimed space: 30\.7\dkB$`)
	equal(t, "events", ok(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", time.Now().Add(time.Millisecond).Format(time.RFC3339Nano),
		"--filter", "type=image", "--format", "{{.Action}}"), "delete\nprune")
	used := made(t, ok(t, "create", name))
	equal(t, "used", ok(t, "image", "prune", "-a", "-f", "--filter", "label=prune"), "Total reclaimed space: 0B")
	ok(t, "rm", used)
	match(t, "all", ok(t, "image", "prune", "-a", "-f", "--filter", "label=prune"), `(?s)^Deleted Images:\nuntagged: `+name+`:latest\ndeleted: `+second+`\n`)
	fails(t, 1, "(?i)no such image", "image", "inspect", second)
}

func TestPruneVolumes(t *testing.T) {
	vol := fresh("prunevol")
	ok(t, "volume", "create", "--label", "prune="+vol, vol)
	defer docker(t, "volume", "rm", "-f", vol)
	ok(t, "run", "--rm", "-v", vol+":/v", image("busybox"), "dd", "if=/dev/zero", "of=/v/a", "bs=1k", "count=20")
	all := []string{"volume", "prune", "-f", "--filter", "label=prune=" + vol}
	if bed.server.Owned { // before 1.42 named volumes go without asking
		equal(t, "named", ok(t, all...), "Total reclaimed space: 0B")
		all = append(all, "-a")
	}
	equal(t, "all", ok(t, all...), "Deleted Volumes:\n"+vol+"\n\nTotal reclaimed space: 20.48kB")
}

func TestSystemPrune(t *testing.T) {
	label := fresh("sysprune")
	ok(t, "create", "--label", label, image("busybox"), "true")
	out := ok(t, "system", "prune", "-f", "--filter", "label="+label)
	match(t, "prune", out, `^Deleted Containers:\n[0-9a-f]{64}\n\nTotal reclaimed space: 0B$`)
	equal(t, "again", ok(t, "system", "prune", "-f", "--filter", "label="+label), "Total reclaimed space: 0B")
	if strings.Contains(ok(t, "ps", "-a", "--filter", "label="+label, "-q"), "\n") {
		t.Error("a container stays")
	}
}

// The docker command asks the registry itself; what it sees must be what is there.
func TestManifestInspect(t *testing.T) {
	out := ok(t, "manifest", "inspect", "--insecure", image("multi"))
	var m struct {
		Manifests []struct {
			Platform struct{ OS, Architecture string }
		}
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil || len(m.Manifests) < 2 {
		t.Errorf("%s, %v", out, err)
	}
	fails(t, 1, "no such manifest", "manifest", "inspect", "--insecure", image("nosuch"))
	fails(t, 1, "", "search", "busybox")
}
