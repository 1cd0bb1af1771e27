package dockerapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var twoCPUs = createHost{NCPU: 2, OS: "linux"}

func translate(t *testing.T, doc string, minor int) (brig.CreateRequest, []string, error) {
	t.Helper()
	doc = strings.Replace(strings.Replace(doc, "{", `{"Image":"x",`, 1), ",}", "}", 1) // moby's type wants some field of Config
	b, err := decodeCreate([]byte(doc))
	if err != nil {
		return brig.CreateRequest{}, nil, err
	}
	return translateCreate(b, minor, twoCPUs)
}

func TestTranslateRefusals(t *testing.T) {
	for doc, want := range map[string]string{
		`{"Hostname":"` + strings.Repeat("x", 65) + `"}`: "is too long (maximum 64 bytes)",
		`{"Env":["=x"]}`:                                                                                "invalid environment variable: =x",
		`{"WorkingDir":"rel"}`:                                                                          "the working directory 'rel' is invalid, it needs to be an absolute path",
		`{"StopSignal":"FOO"}`:                                                                          "invalid signal: FOO",
		`{"Healthcheck":{"Interval":5}}`:                                                                "Interval in Healthcheck cannot be less than 1ms",
		`{"Healthcheck":{"Retries":-1}}`:                                                                "Retries in Healthcheck cannot be negative",
		`{"Volumes":{"/":{}}}`:                                                                          "destination can't be '/'",
		`{"ExposedPorts":{"0/tcp":{}}}`:                                                                 "invalid port specification",
		`{"ExposedPorts":{"80/icmp":{}}}`:                                                               `invalid port specification: "80/icmp"`,
		`{"ExposedPorts":{"x":{}}}`:                                                                     "invalid JSON",
		`{"Cmd":5}`:                                                                                     "invalid JSON",
		`{"HostConfig":{"Memory":1}}`:                                                                   "Minimum memory limit allowed is 6MB",
		`{"HostConfig":{"MemorySwap":9000000}}`:                                                         "You should always set the Memory limit when using Memoryswap limit, see usage",
		`{"HostConfig":{"Memory":9000000,"MemorySwap":8000000}}`:                                        "Minimum memoryswap limit should be larger than memory limit, see usage",
		`{"HostConfig":{"Memory":9000000,"MemoryReservation":9100000}}`:                                 "Minimum memory limit can not be less than memory reservation limit, see usage",
		`{"HostConfig":{"MemorySwappiness":101}}`:                                                       "valid memory swappiness range is 0-100",
		`{"HostConfig":{"OomScoreAdj":1001}}`:                                                           "range for oom score adj is [-1000, 1000]",
		`{"HostConfig":{"NanoCpus":3000000000}}`:                                                        "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
		`{"HostConfig":{"NanoCpus":1,"CpuQuota":5000}}`:                                                 "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
		`{"HostConfig":{"CpuPeriod":10}}`:                                                               "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
		`{"HostConfig":{"CpusetCpus":"0-7"}}`:                                                           "Requested CPUs are not available - requested 0-7, available: 0-1",
		`{"HostConfig":{"CpusetCpus":"x"}}`:                                                             "Invalid value x for cpuset cpus",
		`{"HostConfig":{"BlkioWeight":5}}`:                                                              "Range of blkio weight is from 10 to 1000",
		`{"HostConfig":{"Ulimits":[{"Name":"foo"}]}}`:                                                   "invalid ulimit type: foo",
		`{"HostConfig":{"Ulimits":[{"Name":"core","Soft":2,"Hard":1}]}}`:                                "soft limit must be less than or equal to hard limit",
		`{"HostConfig":{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"x"}]}}`:               "invalid device mode: x",
		`{"HostConfig":{"DeviceCgroupRules":["q"]}}`:                                                    "invalid device cgroup rule format: 'q'",
		`{"HostConfig":{"DeviceRequests":[{"Capabilities":[["gpu"]]}]}}`:                                `could not select device driver "" with capabilities: [[gpu]]`,
		`{"HostConfig":{"CapAdd":["foo"]}}`:                                                             `invalid CapAdd: unknown capability: "CAP_FOO"`,
		`{"HostConfig":{"CapDrop":["CAP_FOO"]}}`:                                                        `invalid CapDrop: unknown capability: "CAP_FOO"`,
		`{"HostConfig":{"SecurityOpt":["foo"]}}`:                                                        `invalid --security-opt 1: "foo"`,
		`{"HostConfig":{"SecurityOpt":["foo=bar"]}}`:                                                    `invalid --security-opt 2: "foo=bar"`,
		`{"HostConfig":{"SecurityOpt":["seccomp={"]}}`:                                                  "Decoding seccomp profile failed",
		`{"HostConfig":{"SecurityOpt":["apparmor=mine"]}}`:                                              "AppArmor profiles are not supported",
		`{"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`:                          "can't create 'AutoRemove' container with restart policy",
		`{"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}`:                                         "invalid restart policy: unknown policy 'sometimes'",
		`{"HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":3}}}`:                      "maximum retry count can only be used with 'on-failure'",
		`{"HostConfig":{"LogConfig":{"Type":"foo"}}}`:                                                   "logger: no log driver named 'foo' is registered",
		`{"HostConfig":{"LogConfig":{"Config":{"foo":"1"}}}}`:                                           "unknown log opt 'foo' for json-file log driver",
		`{"HostConfig":{"IpcMode":"x"}}`:                                                                "invalid IPC mode: x",
		`{"HostConfig":{"PidMode":"container:"}}`:                                                       "invalid PID mode: container:",
		`{"HostConfig":{"UTSMode":"x"}}`:                                                                "invalid UTS mode: x",
		`{"HostConfig":{"CgroupnsMode":"x"}}`:                                                           "invalid cgroup namespace mode: x",
		`{"HostConfig":{"ShmSize":-1}}`:                                                                 "SHM size can not be less than 0",
		`{"HostConfig":{"StorageOpt":{"foo":"1"}}}`:                                                     "unknown storage option: foo",
		`{"HostConfig":{"VolumeDriver":"nfs"}}`:                                                         `plugin "nfs" not found`,
		`{"HostConfig":{"VolumesFrom":["c:private"]}}`:                                                  "invalid mode: private",
		`{"HostConfig":{"ExtraHosts":["x"]}}`:                                                           `bad format for add-host: "x"`,
		`{"HostConfig":{"ExtraHosts":["x:y"]}}`:                                                         `invalid IP address in add-host: "y"`,
		`{"Hostname":"h","HostConfig":{"UTSMode":"host"}}`:                                              "conflicting options: hostname and the UTS mode",
		`{"Hostname":"h","HostConfig":{"NetworkMode":"container:x"}}`:                                   "conflicting options: hostname and the network mode",
		`{"HostConfig":{"NetworkMode":"container:"}}`:                                                   "invalid container format container:<name|id>",
		`{"HostConfig":{"NetworkMode":"container:x","PublishAllPorts":true}}`:                           "conflicting options: port publishing and the container type network mode",
		`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}`:                                 `invalid port specification: "x"`,
		`{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"Aliases":["a"]}}}}`:                         "network-scoped aliases are only supported for user-defined networks",
		`{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"10.0.0.1"}}}}}`: "user specified IP address is supported on user defined networks only",
	} {
		if _, _, err := translate(t, doc, 51); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		} else if k := errs.KindOf(err); k != errs.Invalid && k != errs.NotImplemented && k != errs.NotFound {
			t.Errorf("%s: kind %v", doc, k)
		}
	}
}

func TestTranslateMounts(t *testing.T) {
	for _, c := range []struct {
		host string // the HostConfig
		want string // of the only mount as Go's %+v without its zero fields; or an error
	}{
		{`"Binds":["/a:/b"]`, "Type:bind Source:/a Target:/b CreateSrc:true"},
		{`"Binds":["/a/../c:/b/:ro,rslave,z"]`, "Type:bind Source:/c Target:/b ReadOnly:true Propagation:rslave CreateSrc:true Mode:ro,rslave,z"},
		{`"Binds":["vol:/b:nocopy"]`, "Type:volume Source:vol Target:/b NoCopy:true CreateSrc:true Mode:nocopy VolumeOpts:{Name:vol Driver: Options:map[] Labels:map[]}"},
		{`"Binds":["/b"]`, "Type:volume Target:/b CreateSrc:true"},
		{`"Binds":["/a:/b","/c:/b"]`, "Duplicate mount point: /b"},
		{`"Binds":["/a:/b"],"Tmpfs":{"/b":""}`, "Duplicate mount point: /b"},
		{`"Binds":["/a:/b"],"Mounts":[{"Type":"tmpfs","Target":"/b"}]`, "Duplicate mount point: /b"},
		{`"Binds":["/a:/b:foo"]`, "invalid mode: foo"},
		{`"Binds":["/a:/b:ro,rw"]`, "invalid mode: ro,rw"},
		{`"Binds":["/a:rel"]`, "invalid volume specification: '/a:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute"},
		{`"Binds":["/a:/"]`, "destination can't be '/'"},
		{`"Binds":["/a:ro"]`, "invalid volume specification: '/a:ro'"},
		{`"Binds":["a/b:/c"]`, "includes invalid characters for a local volume name"},
		{`"Binds":["v:/c"]`, "volume name is too short, names should be at least two alphanumeric characters"},
		{`"Binds":[":/c"]`, "invalid volume specification: ':/c'"},
		{`"Tmpfs":{"/t":"ro,size=1m,mode=755"}`, "Type:tmpfs Target:/t ReadOnly:true TmpfsSize:1048576 TmpfsOpts:ro,size=1m,mode=755"},
		{`"Tmpfs":{"/t":"foo"}`, `invalid tmpfs option "foo"`},
		{`"Tmpfs":{"t":""}`, "mount path must be absolute"},
		{`"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"shared","NonRecursive":true}}]`, "Type:bind Source:/a Target:/b ReadOnly:true Propagation:shared NonRecur:true"},
		{`"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"CreateMountpoint":true}}]`, "Type:bind Source:/a Target:/b CreateSrc:true"},
		{`"Mounts":[{"Type":"bind","Source":"a","Target":"/b"}]`, "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute"},
		{`"Mounts":[{"Type":"bind","Target":"/b"}]`, "invalid mount config for type \"bind\": field Source must not be empty"},
		{`"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","VolumeOptions":{}}]`, "field VolumeOptions must not be specified"},
		{`"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"ReadOnlyForceRecursive":true}}]`, "not supported by brig"},
		{`"Mounts":[{"Type":"volume","Source":"vv","Target":"/b","VolumeOptions":{"NoCopy":true,"Subpath":"d","Labels":{"k":"v"},"DriverConfig":{"Name":"local","Options":{"o":"1"}}}}]`,
			"Type:volume Source:vv Target:/b NoCopy:true Subpath:d VolumeOpts:{Name:vv Driver:local Options:map[o:1] Labels:map[k:v]}"},
		{`"Mounts":[{"Type":"volume","Source":"vv","Target":"/b","VolumeOptions":{"Subpath":"../x"}}]`, "subpath must be a relative path within the volume"},
		{`"Mounts":[{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":4096,"Mode":448,"Options":[["noexec"]]}}]`, "Type:tmpfs Target:/b TmpfsSize:4096 TmpfsMode:448 TmpfsOpts:noexec"},
		{`"Mounts":[{"Type":"tmpfs","Source":"x","Target":"/b"}]`, "field Source must not be specified"},
		{`"Mounts":[{"Type":"image","Source":"x","Target":"/b"}]`, "mounts of type image are not supported"},
		{`"Mounts":[{"Type":"foo","Target":"/b"}]`, `invalid mount config for type "foo": mount type unknown`},
	} {
		r, _, err := translate(t, `{"HostConfig":{`+c.host+`}}`, 51)
		switch {
		case err != nil && strings.Contains(err.Error(), c.want):
		case err != nil || len(r.Spec.Mounts) != 1:
			t.Errorf("%s: %v, %v", c.host, r.Spec.Mounts, err)
		default:
			if got := set(r.Spec.Mounts[0]); got != c.want {
				t.Errorf("%s: %s, want %s", c.host, got, c.want)
			}
		}
	}
}

// set prints the fields of a struct that are not zero.
func set(v any) string {
	var out []string
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if f := rv.Field(i); !f.IsZero() {
			out = append(out, rv.Type().Field(i).Name+":"+fmt.Sprintf("%+v", f.Interface()))
		}
	}
	return strings.Join(out, " ")
}

func TestTranslateOldShapes(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		minor     int
		ok        func(r brig.CreateRequest, warnings []string) bool
	}{
		{"strings for lists", `{"cmd":"top","Entrypoint":"/bin/x"}`, 24, func(r brig.CreateRequest, _ []string) bool {
			return reflect.DeepEqual(r.Spec.Cmd, []string{"top"}) && reflect.DeepEqual(r.Spec.Entrypoint, []string{"/bin/x"})
		}},
		{"default network", `{"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:00:00:00:00:01"}}}}`, 51, func(r brig.CreateRequest, _ []string) bool {
			return r.Spec.NetworkMode == "bridge" && r.Spec.Networks["bridge"].MacAddress == "02:00:00:00:00:01"
		}},
		{"container's mac", `{"MacAddress":"02:00:00:00:00:01"}`, 43, func(r brig.CreateRequest, w []string) bool {
			return r.Spec.Networks["bridge"].MacAddress == "02:00:00:00:00:01" && len(w) == 0
		}},
		{"container's mac, deprecated", `{"MacAddress":"02:00:00:00:00:01"}`, 44, func(r brig.CreateRequest, w []string) bool {
			return r.Spec.MacAddress == "02:00:00:00:00:01" && len(w) == 1
		}},
		{"annotations before 1.43", `{"HostConfig":{"Annotations":{"a":"b"}}}`, 42, func(r brig.CreateRequest, _ []string) bool { return r.Spec.Annotations == nil }},
		{"ipc before 1.40", `{}`, 39, func(r brig.CreateRequest, _ []string) bool { return r.Spec.IpcMode == "shareable" }},
		{"kernel memory", `{"HostConfig":{"KernelMemory":5}}`, 40, func(_ brig.CreateRequest, w []string) bool { return len(w) == 1 }},
		{"options of other types before 1.42", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","VolumeOptions":{}}]}}`, 41, func(r brig.CreateRequest, _ []string) bool { return len(r.Spec.Mounts) == 1 }},
		{"swappiness -1", `{"HostConfig":{"MemorySwappiness":-1}}`, 24, func(r brig.CreateRequest, _ []string) bool { return r.Spec.Limits.MemorySwappiness == nil }},
		{"colon in security options", `{"HostConfig":{"SecurityOpt":["seccomp:unconfined","no-new-privileges:true"]}}`, 24, func(r brig.CreateRequest, _ []string) bool {
			return r.Spec.Seccomp == "unconfined" && r.Spec.NoNewPrivileges
		}},
		{"masked paths: none", `{"HostConfig":{"MaskedPaths":[],"ReadonlyPaths":[]}}`, 51, func(r brig.CreateRequest, _ []string) bool {
			return r.Spec.MaskedPaths != nil && r.Spec.ReadonlyPaths != nil
		}},
		{"masked paths: default", `{"HostConfig":{"MaskedPaths":null}}`, 51, func(r brig.CreateRequest, _ []string) bool { return r.Spec.MaskedPaths == nil }},
		{"ports", `{"ExposedPorts":{"90/udp":{},"80/tcp":{}},"HostConfig":{"PortBindings":{"80":[{"HostIp":"127.0.0.1","HostPort":"8000-8010"}],"90/udp":null}}}`, 51, func(r brig.CreateRequest, _ []string) bool {
			tcp, udp := brig.Port{Number: 80, Proto: "tcp"}, brig.Port{Number: 90, Proto: "udp"}
			return reflect.DeepEqual(r.Spec.Exposed, []brig.Port{tcp, udp}) &&
				reflect.DeepEqual(r.Spec.Ports, []brig.PortBinding{{Port: tcp, HostIP: "127.0.0.1", HostPort: 8000, HostEnd: 8010}, {Port: udp}})
		}},
		{"two networks before 1.44 are refused", `{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":null}}}`, 43, nil},
		{"two networks", `{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":null}}}`, 44, func(r brig.CreateRequest, _ []string) bool { return len(r.Spec.Networks) == 2 }},
	} {
		r, w, err := translate(t, c.doc, c.minor)
		if (c.ok == nil) != (err != nil) || c.ok != nil && !c.ok(r, w) {
			t.Errorf("%s: %+v, %q, %v", c.name, r.Spec, w, err)
		}
	}
}

// notedFields are those of HostConfig that are echoed by inspect and need nothing else, each with the reason.
var notedFields = map[string]string{
	"ContainerIDFile": "written by the client",
	"ConsoleSize":     "clients send the size again once the container runs",
}

// TestEveryFieldOfHostConfigHasAnEffect sets one field after the other: the Spec must change, or the request be refused or warned of.
func TestEveryFieldOfHostConfigHasAnEffect(t *testing.T) {
	values := map[string]any{
		"Binds": []string{"/a:/b"}, "LogConfig": container.LogConfig{Type: "none"}, "NetworkMode": container.NetworkMode("host"),
		"PortBindings":  network.PortMap{network.MustParsePort("80/tcp"): nil},
		"RestartPolicy": container.RestartPolicy{Name: "always"}, "VolumeDriver": "x", "CgroupnsMode": container.CgroupnsMode("host"),
		"DNS": []netip.Addr{netip.MustParseAddr("1.1.1.1")}, "ExtraHosts": []string{"a:1.1.1.1"}, "IpcMode": container.IpcMode("host"), "Cgroup": container.CgroupSpec("container:x"),
		"PidMode": container.PidMode("host"), "UTSMode": container.UTSMode("host"), "UsernsMode": container.UsernsMode("host"), "SecurityOpt": []string{"no-new-privileges"},
		"StorageOpt": map[string]string{"size": "1g"}, "Tmpfs": map[string]string{"/t": ""}, "ShmSize": int64(1 << 20), "Isolation": container.Isolation("hyperv"),
		"CapAdd": []string{"CAP_CHOWN"}, "CapDrop": []string{"ALL"}, "Mounts": []mount.Mount{{Type: "tmpfs", Target: "/t"}},
		"Memory": int64(7 << 20), "MemoryReservation": int64(7 << 20), "MemorySwap": int64(-1), "BlkioWeight": uint16(10), "CPUPeriod": int64(5000), "CPUQuota": int64(5000),
		"CpusetCpus": "0", "CpusetMems": "0", "Devices": []container.DeviceMapping{{PathOnHost: "/dev/null"}}, "DeviceCgroupRules": []string{"c 1:3 r"},
		"DeviceRequests": []container.DeviceRequest{{Count: 1}}, "Ulimits": []*units.Ulimit{{Name: "core"}}, "OomKillDisable": ptr(true), "CPURealtimePeriod": int64(9),
	}
	for _, name := range []string{"BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"} {
		values[name] = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 5}}
	}
	base, _, err := translateCreate(&createBody{CreateRequest: bareRequest(&container.HostConfig{})}, 51, twoCPUs)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[container.HostConfig]()) {
		if field.Anonymous {
			continue
		}
		h := &container.HostConfig{}
		fv := reflect.ValueOf(h).Elem().FieldByIndex(field.Index)
		if v, ok := values[field.Name]; ok {
			fv.Set(reflect.ValueOf(v))
		} else {
			fill(fv)
		}
		if fv.IsZero() {
			t.Errorf("HostConfig.%s: this test has no value for it", field.Name)
		}
		got, warnings, err := translateCreate(&createBody{CreateRequest: bareRequest(h)}, 51, twoCPUs)
		acted := err != nil || len(warnings) > 0 || !reflect.DeepEqual(got.Spec, base.Spec)
		if _, noted := notedFields[field.Name]; acted == noted {
			t.Errorf("HostConfig.%s: acted on %v, noted as without effect %v", field.Name, acted, noted)
		}
	}
}

func bareRequest(h *container.HostConfig) container.CreateRequest {
	return container.CreateRequest{Config: &container.Config{}, HostConfig: h, NetworkingConfig: &network.NetworkingConfig{}}
}

func ptr[T any](v T) *T { return &v }

// fill sets v to some value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Array:
		fill(v.Index(0))
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k)
		fill(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(f)
			}
		}
	}
}

// TestEveryFieldOfConfigHasAnEffect does the same for Config.
func TestEveryFieldOfConfigHasAnEffect(t *testing.T) {
	noted := map[string]string{"ArgsEscaped": "Windows only"}
	values := map[string]any{"Volumes": map[string]struct{}{"/v": {}}, "WorkingDir": "/w", "StopSignal": "TERM", "ExposedPorts": network.PortSet{network.MustParsePort("80"): {}}}
	base, _, err := translateCreate(&createBody{CreateRequest: bareRequest(&container.HostConfig{})}, 51, twoCPUs)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[container.Config]()) {
		r := bareRequest(&container.HostConfig{})
		fv := reflect.ValueOf(r.Config).Elem().FieldByIndex(field.Index)
		if v, ok := values[field.Name]; ok {
			fv.Set(reflect.ValueOf(v))
		} else {
			fill(fv)
		}
		got, warnings, err := translateCreate(&createBody{CreateRequest: r}, 51, twoCPUs)
		acted := err != nil || len(warnings) > 0 || !reflect.DeepEqual(got.Spec, base.Spec)
		if _, n := noted[field.Name]; acted == n {
			t.Errorf("Config.%s: acted on %v, noted as without effect %v", field.Name, acted, n)
		}
	}
}

func TestHostConfigIsKept(t *testing.T) {
	r, _, err := translate(t, `{"HostConfig":{"Binds":["/a:/b"],"Memory":104857600,"Dns":["1.1.1.1"]}}`, 51)
	if err != nil {
		t.Fatal(err)
	}
	var h container.HostConfig
	if err := json.Unmarshal(r.HostConfig, &h); err != nil || h.Memory != 100<<20 || len(h.Binds) != 1 || h.NetworkMode != "bridge" {
		t.Errorf("%s, %v", r.HostConfig, err)
	}
}
