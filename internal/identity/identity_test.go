package identity

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
)

const hash = "sha512-277205b3ae3eb3a8e042a62ae46934b470e431ac277205b3ae3eb3a8e042a62ae46934b470e431ac277205b3ae3eb3a8e042a62ae46934b470e431ac12345678"

const imageManifest = `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app","annotations":[{"name":"author","value":"who"},{"name":"tier","value":"image"}]}`

func container() *brig.Container {
	return &brig.Container{
		ID: brig.ID(strings.Repeat("a1", 32)), Name: "My__web.1-",
		Spec: brig.Spec{
			Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"true"}, User: "www", Env: []string{"A=1", "A=2", "B", "1BAD=x", "LANG=C=D"}, ReadOnly: true,
			Labels: map[string]string{"tier": "container", "Not An Identifier": "x", "com.example/x": "y"}, GroupAdd: []string{"12", "audio"},
			Exposed: []brig.Port{{Number: 80, Proto: "tcp"}, {Number: 53, Proto: "udp"}}, Limits: brig.Limits{Memory: 64 << 20, NanoCPUs: 500e6},
		},
		Mounts: []brig.MountPoint{
			{Type: brig.MountBind, Source: "/srv", Target: "/data", RW: false}, {Type: brig.MountVolume, Name: "v", Target: "/da/ta", RW: true},
			{Type: brig.MountTmpfs, Target: "/da_ta", RW: true},
		},
		Endpoints: map[string]brig.Endpoint{"bridge": {Ports: []brig.PortBinding{
			{Port: brig.Port{Number: 80, Proto: "tcp"}, HostIP: "0.0.0.0", HostPort: 8080}, {Port: brig.Port{Number: 80, Proto: "tcp"}, HostIP: "::", HostPort: 8080},
		}}},
	}
}

// What is published decodes by the schema, and says what the container is.
func TestContainer(t *testing.T) {
	c := container()
	img := Image{ID: hash, Manifest: []byte(imageManifest)}
	places := []brig.PodPlace{{Source: netip.MustParseAddr("10.0.0.2"), Gateway: netip.MustParseAddr("10.0.0.1")}}
	id, err := Of("u", Container(c, img, "example.com/app"), []Image{img}, places)
	if err != nil {
		t.Fatal(err)
	}
	var pm schema.PodManifest
	if err := json.Unmarshal(id.Manifest, &pm); err != nil {
		t.Fatalf("%v: %s", err, id.Manifest)
	}
	a := pm.Apps[0]
	if a.Name != "my-web-1" || a.Image.ID.String() != hash || a.Image.Name.String() != "example.com/app" || !a.ReadOnlyRootFS || a.App.User != "www" || a.App.Group != "www" {
		t.Errorf("app: %s", id.Manifest)
	}
	if v, _ := a.App.Environment.Get("A"); v != "2" || len(a.App.Environment) != 2 {
		t.Errorf("environment: %v", a.App.Environment)
	}
	if !slices.Equal(a.App.SupplementaryGIDs, []int{12}) || len(a.App.Isolators) != 2 || a.App.WorkingDirectory != "/" {
		t.Errorf("app: %+v", a.App)
	}
	var names []string
	for _, v := range pm.Volumes {
		names = append(names, v.Name.String()+" "+v.Kind+" "+v.Source)
	}
	if want := []string{"volume-data host /srv", "volume-da-ta empty ", "volume-da-ta-2 empty "}; !slices.Equal(names, want) {
		t.Errorf("volumes %q, not %q", names, want)
	}
	if len(pm.Ports) != 1 || pm.Ports[0].Name != "80-tcp" || pm.Ports[0].HostPort != 8080 || len(a.App.Ports) != 2 {
		t.Errorf("ports %v, %v", pm.Ports, a.App.Ports)
	}
	var merged types.Annotations
	if err := json.Unmarshal(id.Apps[0].Annotations, &merged); err != nil {
		t.Fatal(err)
	}
	tier, _ := merged.Get("tier")
	author, _ := merged.Get("author")
	if tier != "container" || author != "who" || len(merged) != 3 {
		t.Errorf("annotations %v", merged)
	}
	if string(id.Apps[0].Image) != imageManifest || id.Apps[0].ImageID != hash || !slices.Equal(id.Places, places) {
		t.Errorf("published: %+v", id)
	}
}

// Without an image ID there is no manifest yet, and without an image there still is an identity.
func TestIncomplete(t *testing.T) {
	c := &brig.Container{ID: brig.ID(strings.Repeat("b2", 32)), Name: "x"}
	for _, img := range []Image{{Manifest: []byte(imageManifest)}, {}} {
		id, err := Of("u", Container(c, img, "NOT AN IDENTIFIER"), []Image{img}, nil)
		if err != nil || id.Manifest != nil || len(id.Apps) != 1 || id.Apps[0].Name != "x" {
			t.Errorf("%+v, %v", id, err)
		}
	}
	if _, err := Of("u", Container(c, Image{}, ""), []Image{{ID: hash}, {}}, nil); err == nil {
		t.Error("more images than apps are taken")
	}
	img := Image{ID: hash}
	if id, err := Of("u", Container(&brig.Container{Name: "---"}, img, ""), []Image{img}, nil); err != nil || json.Unmarshal(id.Manifest, new(schema.PodManifest)) != nil {
		t.Errorf("a container of which nothing is known: %s, %v", id.Manifest, err)
	}
}
