package dockerapi

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

func TestVolumes(t *testing.T) {
	d := newDaemon(t)
	got := d.want(t, 201, "POST", "/volumes/create", map[string]any{"Name": "data", "Labels": map[string]string{"k": "v"}})
	want := `{"CreatedAt":"2026-01-01T00:00:00Z","Driver":"local","Labels":{"k":"v"},"Mountpoint":"/v/data","Name":"data","Options":null,"Scope":"local"}` + "\n"
	if got != want {
		t.Errorf("create: %s", got)
	}
	d.want(t, 201, "POST", "/volumes/create", map[string]any{"Name": "idle"})
	d.want(t, 201, "POST", "/volumes/create", struct{}{})
	d.containers.list = []*brig.Container{{Mounts: []brig.MountPoint{{Type: brig.MountVolume, Name: "data"}, {Type: brig.MountBind, Source: "idle"}}}}
	for filter, names := range map[string]string{
		``: "anon2 data idle", `{"dangling":["1"]}`: "anon2 idle", `{"dangling":["0"]}`: "data", `{"label":["k=v"]}`: "data", `{"name":["d"]}`: "data idle",
		`{"driver":["local"]}`: "anon2 data idle", `{"driver":["nfs"]}`: "",
	} {
		var list struct{ Volumes []struct{ Name string } }
		body := d.want(t, 200, "GET", "/volumes?filters="+url.QueryEscape(filter), nil)
		if err := json.Unmarshal([]byte(body), &list); err != nil || list.Volumes == nil {
			t.Fatalf("%s: %s", filter, body)
		}
		var got []string
		for _, v := range list.Volumes {
			got = append(got, v.Name)
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%s: %v, want %s", filter, got, names)
		}
	}
	d.message(t, 400, "GET", `/volumes?filters={"x":["y"]}`, nil)
	if got := d.want(t, 200, "GET", "/volumes/data", nil); got != want {
		t.Errorf("inspect: %s", got)
	}
	d.message(t, 404, "GET", "/volumes/nosuch", nil)
	d.message(t, 503, "PUT", "/volumes/data", struct{}{})
	d.message(t, 503, "POST", "/volumes/create", map[string]any{"ClusterVolumeSpec": struct{}{}})
	if got := d.want(t, 200, "POST", "/volumes/prune", nil); got != `{"VolumesDeleted":["anon2"],"SpaceReclaimed":50}`+"\n" {
		t.Errorf("prune: %s", got)
	}
	d.volumes.busy["idle"] = true
	if got := d.want(t, 200, "POST", "/v1.41/volumes/prune", nil); got != `{"VolumesDeleted":[],"SpaceReclaimed":0}`+"\n" {
		t.Errorf("prune of a busy one: %s", got)
	}
	d.message(t, 409, "DELETE", "/volumes/idle", nil)
	d.volumes.busy["idle"] = false
	if got := d.want(t, 200, "POST", `/volumes/prune?filters={"all":["true"]}`, nil); got != `{"VolumesDeleted":["idle"],"SpaceReclaimed":40}`+"\n" {
		t.Errorf("prune all: %s", got)
	}
	d.want(t, 200, "POST", "/images/prune", nil)
	d.containers.list = nil
	d.want(t, 200, "POST", "/containers/prune", nil)
	d.want(t, 200, "POST", "/networks/prune", nil)
	var told []string
	for _, e := range d.system.published {
		told = append(told, e.Type+" "+e.Action+" "+e.Attributes["reclaimed"])
	}
	if got := strings.Join(told, ", "); got != "volume prune 50, volume prune 0, volume prune 40, image prune 0, container prune 0, network prune 0" {
		t.Errorf("events: %s", got)
	}
	d.want(t, 204, "DELETE", "/volumes/data", nil)
	d.message(t, 404, "DELETE", "/volumes/data", nil)
}

func TestNetworks(t *testing.T) {
	d := newDaemon(t)
	running := brig.Status{State: brig.Running}
	d.containers.list = []*brig.Container{
		{ID: "c1", Name: "web", Status: running, Endpoints: map[string]brig.Endpoint{
			"bridge": {EndpointID: "e1", Addr4: netip.MustParsePrefix("172.17.0.2/16"), MAC: "02:42:ac:11:00:02"}}},
		{ID: "c2", Name: "idle", Endpoints: map[string]brig.Endpoint{"bridge": {}}},
	}
	for filter, names := range map[string]string{
		``: "bridge mine", `{"name":["min"]}`: "mine", `{"id":["aaa"]}`: "bridge", `{"driver":["bridge"]}`: "bridge mine", `{"label":["k"]}`: "mine",
		`{"scope":["swarm"]}`: "", `{"type":["custom"]}`: "mine", `{"type":["builtin"]}`: "bridge", `{"dangling":["true"]}`: "mine", `{"dangling":["false"]}`: "bridge",
	} {
		var list []struct {
			Name       string
			Containers map[string]any
		}
		body := d.want(t, 200, "GET", "/networks?filters="+url.QueryEscape(filter), nil)
		if err := json.Unmarshal([]byte(body), &list); err != nil || list == nil {
			t.Fatalf("%s: %s", filter, body)
		}
		var got []string
		for _, n := range list {
			got = append(got, n.Name)
			if n.Containers == nil || len(n.Containers) > 0 {
				t.Errorf("%s lists containers: %s", n.Name, body)
			}
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%s: %v, want %s", filter, got, names)
		}
	}
	d.message(t, 400, "GET", `/networks?filters={"type":["x"]}`, nil)
	if body := d.want(t, 200, "GET", "/v1.27/networks", nil); !strings.Contains(body, `"c1"`) {
		t.Errorf("before 1.28 the list has containers: %s", body)
	}
	body := d.want(t, 200, "GET", "/networks/bridge?verbose=false&scope=local", nil)
	if !strings.Contains(body, `"Containers":{"c1":{"Name":"web","EndpointID":"e1","MacAddress":"02:42:ac:11:00:02","IPv4Address":"172.17.0.2/16","IPv6Address":""}}`) {
		t.Errorf("inspect: %s", body)
	}
	for _, c := range []struct {
		status       int
		method, path string
		body         any
	}{
		{404, "GET", "/networks/nosuch", nil}, {404, "GET", "/networks/bridge?scope=swarm", nil},
		{503, "POST", "/networks/create", map[string]any{"Name": "x", "Driver": "overlay"}}, {404, "POST", "/networks/create", map[string]any{"Name": "x", "IPAM": map[string]any{"Driver": "no"}}},
		{400, "POST", "/networks/create", nil}, {400, "POST", "/networks/create", map[string]any{"Name": "x", "IPAM": map[string]any{"Config": []any{map[string]any{"Subnet": "no"}}}}},
		{400, "POST", "/networks/create", map[string]any{"Name": "x", "Scope": "moon"}},
		{404, "POST", "/networks/nosuch/connect", map[string]any{"Container": "web"}}, {404, "POST", "/networks/nosuch/disconnect", map[string]any{"Container": "web"}},
		{400, "POST", "/networks/bridge/connect", map[string]any{"Container": "web", "EndpointConfig": map[string]any{"Aliases": []string{"x"}}}},
		{409, "POST", "/networks/create", map[string]any{"Name": "mine"}},
		{403, "DELETE", "/networks/bridge", nil}, {404, "DELETE", "/networks/nosuch", nil},
	} {
		d.message(t, c.status, c.method, c.path, c.body)
	}
	d.want(t, 201, "POST", "/networks/create", map[string]any{"Name": "lan", "EnableIPv6": true, "Internal": true, "Options": map[string]string{"o": "1"},
		"IPAM": map[string]any{"Config": []any{map[string]any{"Subnet": "10.9.0.0/16", "IPRange": "10.9.1.0/24", "AuxiliaryAddresses": map[string]string{"r": "10.9.1.1"}}}}})
	if n, err := d.nets.Lookup(t.Context(), "lan"); err != nil || !n.IPv6 || !n.Internal || n.Options["o"] != "1" || n.Subnets[0].Range.String() != "10.9.1.0/24" || n.Subnets[0].Aux["r"].String() != "10.9.1.1" {
		t.Errorf("created: %+v, %v", n, err)
	}
	d.want(t, 201, "POST", "/networks/create", map[string]any{"Name": "both", "EnableIPv6": true,
		"IPAM": map[string]any{"Config": []any{map[string]any{"Subnet": "fd00:9::/64"}, map[string]any{"Subnet": "10.19.0.0/16"}}}})
	if got := d.want(t, 200, "GET", "/networks/both", nil); strings.Index(got, "10.19.0.0/16") > strings.Index(got, "fd00:9::/64") || !strings.Contains(got, "10.19.0.0/16") {
		t.Errorf("IPv4's subnet doesn't come first: %s", got)
	}
	d.want(t, 204, "DELETE", "/networks/both", nil)
	d.want(t, 200, "POST", "/networks/lan/connect", map[string]any{"Container": "web", "EndpointConfig": map[string]any{"Aliases": []string{"www"}, "GwPriority": 3,
		"IPAMConfig": map[string]any{"IPv4Address": "10.9.0.7", "LinkLocalIPs": []string{"169.254.1.1"}}}})
	if e := d.nets.members["lan web"]; e.IPv4 != "10.9.0.7" || e.Aliases[0] != "www" || e.GwPriority != 3 || e.LinkLocal[0] != "169.254.1.1" {
		t.Errorf("connected: %+v", e)
	}
	if got := d.want(t, 200, "POST", `/networks/prune?filters={"label":["k=v"]}`, nil); got != `{"NetworksDeleted":["mine"]}`+"\n" {
		t.Errorf("prune by label: %s", got)
	}
	if got := d.want(t, 200, "POST", "/networks/prune", nil); got != `{"NetworksDeleted":null}`+"\n" {
		t.Errorf("prune with the last one in use: %s", got)
	}
	d.want(t, 200, "POST", "/networks/lan/disconnect", map[string]any{"Container": "web"})
	d.want(t, 204, "DELETE", "/networks/lan", nil)
}

func TestVersionAndInfo(t *testing.T) {
	d := newDaemon(t)
	d.system.info = SystemInfo{
		Info: brig.Info{Containers: 3, Running: 1, Stopped: 2}, ID: "id", ServerVersion: "0.1", KernelVersion: "6.1", DefaultRuntime: "runc", RuntimeVersion: "1.1.5",
		Runtimes: map[string]string{"runc": "/usr/sbin/runc"}, InsecureRegistries: []string{"127.0.0.0/8", "reg:5000"}, Warnings: []string{"WARNING: no swap"},
	}
	v := d.object(t, "/version")
	if v["ApiVersion"] != "1.51" || v["MinAPIVersion"] != "1.24" || v["Version"] != "0.1" || !hasKey(v, "Platform.Name") || v["Os"] != "linux" {
		t.Errorf("version: %v", v)
	}
	if c := v["Components"].([]any); len(c) != 2 || c[1].(map[string]any)["Name"] != "runc" || !hasKey(c[0].(map[string]any), "Details.Experimental") {
		t.Errorf("components: %v", v["Components"])
	}
	for _, c := range []struct {
		version       string
		there, absent []string
	}{
		{"1.51", []string{"Runtimes.runc.path", "Swarm.LocalNodeState", "Plugins.Volume", "Warnings", "RegistryConfig.IndexConfigs"}, []string{"KernelMemory", "BridgeNfIptables", "RuncCommit.Expected"}},
		{"1.48", []string{"BridgeNfIptables", "RuncCommit.Expected", "RegistryConfig.IndexConfigs"}, []string{"KernelMemory"}},
		{"1.41", []string{"KernelMemory", "BridgeNfIp6tables"}, nil},
	} {
		i := d.object(t, "/v"+c.version+"/info")
		for _, key := range c.there {
			if !hasKey(i, key) {
				t.Errorf("%s: no %s", c.version, key)
			}
		}
		for _, key := range c.absent {
			if hasKey(i, key) {
				t.Errorf("%s: %s is there", c.version, key)
			}
		}
		if i["ContainersStopped"] != 2.0 || i["ID"] != "id" {
			t.Errorf("%s: %v", c.version, i)
		}
		indexes := i["RegistryConfig"].(map[string]any)["IndexConfigs"].(map[string]any)
		if len(indexes) != 2 || indexes["reg:5000"].(map[string]any)["Secure"] != false {
			t.Errorf("%s: %v", c.version, indexes)
		}
	}
}

func TestAuth(t *testing.T) {
	d := newDaemon(t)
	if got := d.want(t, 200, "POST", "/auth", map[string]string{"username": "u", "password": "p"}); got != `{"IdentityToken":"","Status":"Login Succeeded"}`+"\n" {
		t.Errorf("%s", got)
	}
	got := d.message(t, 401, "POST", "/auth", map[string]string{"username": "u", "password": "x", "serveraddress": "reg:5000"})
	if got != "login attempt to reg:5000 failed with status: 401 Unauthorized" {
		t.Errorf("%s", got)
	}
}

func TestDiskUsage(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	d.want(t, 201, "POST", "/volumes/create", map[string]any{"Name": "data"})
	df := d.object(t, "/system/df")
	if df["LayersSize"] != 160.0 || len(df["Images"].([]any)) != 4 || len(df["BuildCache"].([]any)) != 0 || len(df["Containers"].([]any)) != 0 {
		t.Errorf("df: %v", df)
	}
	if i := df["Images"].([]any)[0].(map[string]any); i["SharedSize"] != 100.0 {
		t.Errorf("image: %v", i)
	}
	if v := df["Volumes"].([]any)[0].(map[string]any); !hasKey(v, "UsageData.Size") {
		t.Errorf("volume: %v", v)
	}
	df = d.object(t, "/system/df?type=volume")
	if df["Images"] != nil || df["Containers"] != nil || len(df["Volumes"].([]any)) != 1 {
		t.Errorf("df of volumes: %v", df)
	}
	d.message(t, 400, "GET", "/system/df?type=x", nil)
	if old := d.object(t, "/v1.41/system/df"); !hasKey(old, "BuilderSize") {
		t.Errorf("1.41: %v", old)
	}
}

func TestEvents(t *testing.T) {
	d := newDaemon(t)
	resp := d.do(t, "GET", "/events", nil) // returns when the headers are there: before any event
	if time.Since(d.system.since) > time.Hour {
		t.Errorf("asked for the past: %v", d.system.since)
	}
	d.system.live <- brig.Event{Type: "container", Action: "start", ActorID: "c1", Attributes: map[string]string{"image": "busybox", "name": "web"}, Time: time.Unix(5, 6)}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	want := `{"status":"start","id":"c1","from":"busybox","Type":"container","Action":"start",` +
		`"Actor":{"ID":"c1","Attributes":{"image":"busybox","name":"web"}},"scope":"local","time":5,"timeNano":5000000006}` + "\n"
	if err != nil || line != want {
		t.Errorf("%v\n%s\nwant\n%s", err, line, want)
	}
}

func TestEventFilters(t *testing.T) {
	d := newDaemon(t)
	d.system.past = []brig.Event{
		{Type: "container", Action: "create", ActorID: "c1", Attributes: map[string]string{"name": "web", "image": "busybox:1", "k": "v"}},
		{Type: "container", Action: "health_status: healthy", ActorID: "c2", Attributes: map[string]string{"name": "db", "image": "sql"}},
		{Type: "image", Action: "pull", ActorID: "busybox:1", Attributes: map[string]string{"name": "busybox"}},
		{Type: "volume", Action: "create", ActorID: "v1"},
		{Type: "network", Action: "connect", ActorID: "n1", Attributes: map[string]string{"name": "bridge", "container": "c1"}},
		{Type: "daemon", Action: "reload", ActorID: "d1", Attributes: map[string]string{"name": "host"}},
	}
	for filter, want := range map[string]string{
		``:                                      "c1 c2 busybox:1 v1 n1 d1",
		`{"type":["image","volume"]}`:           "busybox:1 v1",
		`{"event":["create"]}`:                  "c1 v1",
		`{"event":["health_status"]}`:           "c2",
		`{"event":["health_status: healthy"]}`:  "c2",
		`{"container":["web"]}`:                 "c1",
		`{"container":["c"]}`:                   "c1 c2",
		`{"image":["busybox"]}`:                 "c1 busybox:1",
		`{"image":["busybox:1"]}`:               "c1 busybox:1",
		`{"label":["k=v"]}`:                     "c1",
		`{"volume":["v1"]}`:                     "v1",
		`{"network":["bridge"]}`:                "n1",
		`{"daemon":["host"]}`:                   "d1",
		`{"scope":["swarm"]}`:                   "",
		`{"type":["container"],"label":["no"]}`: "",
	} {
		var ids []string
		body := d.want(t, 200, "GET", "/events?since=1&until=2&filters="+url.QueryEscape(filter), nil)
		for line := range strings.Lines(body) {
			var m struct{ Actor struct{ ID string } }
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, m.Actor.ID)
		}
		if strings.Join(ids, " ") != want {
			t.Errorf("%s: %v, want %s", filter, ids, want)
		}
	}
	if !d.system.since.Equal(time.Unix(1, 0)) || !d.system.until.Equal(time.Unix(2, 0)) {
		t.Errorf("since %v, until %v", d.system.since, d.system.until)
	}
	d.message(t, 400, "GET", "/events?since=5&until=2", nil)
	d.message(t, 400, "GET", "/events?since=x", nil)
	d.message(t, 400, "GET", `/events?filters={"x":["y"]}`, nil)
}
