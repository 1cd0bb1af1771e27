package jailspec

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Whatever a container is created with becomes a part of its jail, is refused, or is warned of; the rest is for others than the jail.
func TestNothingIgnored(t *testing.T) {
	yes, n := true, int64(7)
	asked := map[string]any{
		"CapAdd": []string{"SYS_ADMIN"}, "CapDrop": []string{"CHOWN"}, "Seccomp": "{}", "Syscalls": &brig.Syscalls{},
		"PidMode": "host", "IpcMode": "host", "UTSMode": "host", "CgroupnsMode": "host",
		"Ulimits": []brig.Ulimit{{Name: "nofile", Soft: 5, Hard: 6}}, "MemorySwappiness": &n, "BlkioThrottle": []brig.ThrottleDevice{{What: "read_bps", Path: "/dev/x", Rate: 5}},
	}
	// By runtime or the shim, or of the Jail that they make of it.
	elsewhere := strings.Fields(`Image Hostname User WorkingDir OpenStdin StdinOnce AttachIn AttachOut AttachErr Entrypoint Cmd Env Shell OnBuild Labels Annotations Volumes Exposed StopSignal
		StopTimeout Health Mounts VolumesFrom NetworkMode Networks NetworkDisabled Ports PublishAll MacAddress DNS ExtraHosts Links Restart AutoRemove Log StorageOpt Runtime
		PreStart PostStop Sockets CwdExists GroupAdd`)
	elsewhere = append(elsewhere, "CPUPeriod")  // means something with a quota
	elsewhere = append(elsewhere, "Init")       // no process of a jail is number 1, and the shim reaps what is left
	elsewhere = append(elsewhere, "UsernsMode") // there are none, as on Linux
	result := func(edit func(in *Input)) string {
		b, warnings, err := Build(input(edit))
		if err != nil {
			return err.Error()
		}
		return lines(b, warnings)
	}
	plain := result(nil)
	var walk func(typ reflect.Type, of func(in *Input) reflect.Value)
	walk = func(typ reflect.Type, of func(in *Input) reflect.Value) {
		for _, f := range reflect.VisibleFields(typ) {
			field := func(in *Input) reflect.Value { return of(in).FieldByIndex(f.Index) }
			if f.Type == reflect.TypeFor[brig.Limits]() {
				walk(f.Type, field)
				continue
			}
			got := result(func(in *Input) {
				v, to := field(in), reflect.ValueOf(asked[f.Name])
				switch {
				case to.IsValid():
					v.Set(to)
				case v.Kind() == reflect.String:
					v.SetString("x")
				case v.Kind() == reflect.Bool:
					v.SetBool(!v.Bool())
				case v.CanInt():
					v.SetInt(v.Int() + 12345)
				case v.CanUint():
					v.SetUint(v.Uint() + 123)
				case v.Type() == reflect.TypeFor[*bool]():
					v.Set(reflect.ValueOf(&yes))
				case v.Kind() == reflect.Slice:
					v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				case v.Type() == reflect.TypeFor[map[string]string]():
					v.Set(reflect.ValueOf(map[string]string{"x": "1"}))
				case !slices.Contains(elsewhere, f.Name):
					t.Errorf("%s has no value to ask for", f.Name)
				}
			})
			if same := got == plain; same != slices.Contains(elsewhere, f.Name) {
				t.Errorf("%s changes nothing: %v", f.Name, same)
			}
		}
	}
	walk(reflect.TypeFor[brig.Spec](), func(in *Input) reflect.Value { return reflect.ValueOf(&in.Jail.Spec).Elem() })
}

// TestCoveragePage compares what docs/api-coverage.md says of fields on FreeBSD with what comes of them, both ways.
func TestCoveragePage(t *testing.T) {
	n := int64(60)
	spec := func(edit func(s *brig.Spec)) func(in *Input) { return func(in *Input) { edit(&in.Jail.Spec) } }
	limit := func(edit func(l *brig.Limits)) func(in *Input) {
		return func(in *Input) { edit(&in.Jail.Spec.Limits) }
	}
	throttle := func(what string) func(in *Input) {
		return limit(func(l *brig.Limits) { l.BlkioThrottle = []brig.ThrottleDevice{{What: what, Path: "/dev/x", Rate: 5}} })
	}
	fields := map[string]func(in *Input){
		"CapAdd":               spec(func(s *brig.Spec) { s.CapAdd = []string{"SYS_MODULE"} }),
		"CapDrop":              spec(func(s *brig.Spec) { s.CapDrop = []string{"CHOWN"} }),
		"CgroupnsMode":         spec(func(s *brig.Spec) { s.CgroupnsMode = "host" }),
		"IpcMode":              spec(func(s *brig.Spec) { s.IpcMode = "container:x" }),
		"OomScoreAdj":          spec(func(s *brig.Spec) { s.OomScoreAdj = 5 }),
		"PidMode":              spec(func(s *brig.Spec) { s.PidMode = "host" }),
		"Privileged":           spec(func(s *brig.Spec) { s.Privileged = true }),
		"SecurityOpt":          spec(func(s *brig.Spec) { s.Seccomp = "{}" }),
		"Sysctls":              spec(func(s *brig.Spec) { s.Sysctls = map[string]string{"x": "1"} }),
		"CgroupParent":         spec(func(s *brig.Spec) { s.CgroupParent = "/x" }),
		"Devices":              spec(func(s *brig.Spec) { s.Devices = []brig.Device{{Host: "/dev/x"}} }),
		"DeviceCgroupRules":    spec(func(s *brig.Spec) { s.DeviceRules = []string{"c 1:3 r"} }),
		"Ulimits":              spec(func(s *brig.Spec) { s.Ulimits = []brig.Ulimit{{Name: "nice", Soft: 1, Hard: 1}} }),
		"MaskedPaths":          spec(func(s *brig.Spec) { s.MaskedPaths = []string{"/x"} }),
		"ReadonlyPaths":        spec(func(s *brig.Spec) { s.ReadonlyPaths = []string{"/x"} }),
		"CpuShares":            limit(func(l *brig.Limits) { l.CPUShares = 5 }),
		"BlkioWeight":          limit(func(l *brig.Limits) { l.BlkioWeight = 50 }),
		"BlkioDeviceReadBps":   throttle("read_bps"),
		"BlkioDeviceWriteBps":  throttle("write_bps"),
		"BlkioDeviceReadIOps":  throttle("read_iops"),
		"BlkioDeviceWriteIOps": throttle("write_iops"),
		"CpuRealtimePeriod":    limit(func(l *brig.Limits) { l.CPURealtimePeriod = 5 }),
		"CpuRealtimeRuntime":   limit(func(l *brig.Limits) { l.CPURealtimeRuntime = 5 }),
		"CpusetMems":           limit(func(l *brig.Limits) { l.CpusetMems = "0" }),
		"MemoryReservation":    limit(func(l *brig.Limits) { l.MemoryReservation = 5 }),
		"MemorySwap":           limit(func(l *brig.Limits) { l.Memory, l.MemorySwap = 1<<20, 1<<21 }),
		"MemorySwappiness":     limit(func(l *brig.Limits) { l.MemorySwappiness = &n }),
		"OomKillDisable":       limit(func(l *brig.Limits) { l.OomKillDisable = true }),
		"Memory":               limit(func(l *brig.Limits) { l.Memory = 1 << 20 }),
		"NanoCpus":             limit(func(l *brig.Limits) { l.NanoCPUs = 1e9 }),
		"PidsLimit":            limit(func(l *brig.Limits) { l.Pids = 5 }),
		"CpusetCpus":           limit(func(l *brig.Limits) { l.CpusetCPUs = "0" }),
		"GroupAdd":             spec(func(s *brig.Spec) { s.GroupAdd = []string{"5"} }),
		"ReadonlyRootfs":       spec(func(s *brig.Spec) { s.ReadOnly = true }),
		"UTSMode":              spec(func(s *brig.Spec) { s.UTSMode = "host" }),
		"ShmSize":              spec(func(s *brig.Spec) { s.ShmSize = 1 << 20 }),
		"Binds": func(in *Input) {
			in.Host.IsFile = func(string) bool { return true }
			in.Jail.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/f", Target: "/f", Options: []string{"rbind"}}}
		},
		"Mounts": func(in *Input) {
			in.Jail.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/a", Target: "/b", Options: []string{"rshared"}}}
		},
		"Tmpfs": func(in *Input) {
			in.Jail.Mounts = []brig.JailMount{{Type: brig.MountTmpfs, Target: "/b", Options: []string{"huge=always"}}}
		},
	}
	page, err := os.ReadFile("../../docs/api-coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "### Fields of create on FreeBSD\n")
	section, _, _ = strings.Cut(section, "\n#")
	said := map[string]string{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); len(cells) == 3 && strings.HasPrefix(line, "| HostConfig.") {
			said[strings.TrimPrefix(cells[0], "| HostConfig.")] = cells[1]
		}
	}
	if !found || len(said) == 0 {
		t.Fatal("the page has no such section")
	}
	for name, edit := range fields {
		is := ""
		switch _, warnings, err := Build(input(edit)); {
		case errs.Is(err, errs.NotImplemented):
			is = "refused"
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case len(warnings) > 0:
			is = "warned of"
		}
		if is != said[name] {
			t.Errorf("%s is %q, and %q on the page", name, is, said[name])
		}
		delete(said, name)
	}
	if len(said) > 0 {
		t.Errorf("nothing is known of what the page says of %v", said)
	}
}
