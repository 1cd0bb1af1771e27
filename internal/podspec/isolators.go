package podspec

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/appc/spec/schema/types"
	"github.com/appc/spec/schema/types/resource"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// isolating puts isolators into a Spec and notes what became of each.
type isolating struct {
	spec    *brig.Spec
	app     string
	pod     bool // they are the pod's
	results []Isolation
}

func (s *isolating) note(name, result, why string) {
	s.results = append(s.results, Isolation{s.app, name, result, why})
}

// apparmor is in the specification, but the schema has no type for it.
const apparmor = "os/linux/apparmor-profile"

// apply takes all isolators; of several with one name the last counts.
func (s *isolating) apply(list types.Isolators, unknown []Unknown) error {
	for i := range list {
		name := list[i].Name
		if slices.ContainsFunc(list[i+1:], func(o types.Isolator) bool { return o.Name == name }) {
			continue
		}
		if list.GetByName(types.LinuxCapabilitiesRetainSetName) != nil && list.GetByName(types.LinuxCapabilitiesRevokeSetName) != nil {
			return errs.New(errs.Invalid, "the isolators %s and %s exclude each other", types.LinuxCapabilitiesRetainSetName, types.LinuxCapabilitiesRevokeSetName)
		}
		if err := s.one(name.String(), list[i].Value()); err != nil {
			return errs.Wrap(err, "isolator %s", name)
		}
	}
	for _, u := range unknown {
		if u.Name == apparmor { // ace.md: it must be refused where the profile can't be had
			return errs.New(errs.Invalid, "isolator %s: brig has no AppArmor profiles: %s", u.Name, compact(u.Value))
		}
		s.note(u.Name, Ignored, "it is unknown")
	}
	return nil
}

func compact(raw json.RawMessage) string {
	if len(raw) > 200 {
		raw = raw[:200]
	}
	return strings.ToValidUTF8(string(raw), "?")
}

// scope says whose an isolator can be; those of an app alone are nothing for a pod, and the other way round.
func (s *isolating) scope(name string) (ok bool) {
	podOnly := name == types.UnixSysctlName
	both := strings.HasPrefix(name, "resource/") || name == types.LinuxSELinuxContextName
	switch {
	case s.pod && !podOnly && !both:
		s.note(name, Ignored, "it is for apps, not for pods")
	case !s.pod && podOnly:
		s.note(name, Ignored, "it is for pods, not for apps")
	default:
		return true
	}
	return false
}

func (s *isolating) one(name string, v types.IsolatorValue) error {
	if !s.scope(name) {
		return nil
	}
	spec, err := s.spec, error(nil)
	switch v := v.(type) {
	case *types.LinuxCapabilitiesRetainSet:
		spec.CapDrop, spec.CapAdd = []string{"ALL"}, capNames(v.Set())
	case *types.LinuxCapabilitiesRevokeSet:
		spec.CapDrop = capNames(v.Set())
	case *types.LinuxNoNewPrivileges:
		spec.NoNewPrivileges = bool(*v)
	case *types.LinuxSeccompRetainSet:
		err = s.syscalls(v, true)
	case *types.LinuxSeccompRemoveSet:
		err = s.syscalls(v, false)
	case *types.LinuxOOMScoreAdj:
		spec.OomScoreAdj = int(*v)
	case *types.LinuxCPUShares:
		spec.Limits.CPUShares = int64(*v)
	case *types.ResourceCPU:
		err = s.cpu(v)
	case *types.ResourceMemory:
		err = s.memory(v)
	case *types.UnixSysctl:
		spec.Sysctls = map[string]string(*v)
	default: // block and network bandwidth, SELinux
		s.note(name, Ignored, "brig can't enforce it")
		return nil
	}
	if err != nil {
		return err
	}
	if s.pod && strings.HasPrefix(name, "resource/") {
		s.note(name, Modified, "it holds each app, not all of them together")
		return nil
	}
	s.note(name, Enforced, "")
	return nil
}

func capNames(set []types.LinuxCapability) []string {
	var out []string
	for _, c := range set {
		out = append(out, string(c))
	}
	return out
}

// Wildcards of the specification.
const (
	allCalls = "@appc.io/all"
	noCalls  = "@appc.io/empty"
)

func (s *isolating) syscalls(set types.LinuxSeccompSet, retain bool) error {
	f := &brig.Syscalls{Retain: retain, Errno: string(set.Errno())}
	wild := ""
	for _, c := range set.Set() {
		switch {
		case c == allCalls && retain, c == noCalls && !retain:
			wild = string(c)
		case strings.HasPrefix(string(c), "@"):
			return errs.New(errs.Invalid, "the wildcard %q is not known here", c)
		case c == "":
			return errs.New(errs.Invalid, "a system call has no name")
		default:
			f.Names = append(f.Names, string(c))
		}
	}
	switch wild {
	case allCalls: // it masks the rest, and asks for no filter
		s.spec.Seccomp, s.spec.Syscalls = "unconfined", nil
	case noCalls: // likewise, and asks for brig's own filter
		s.spec.Syscalls = nil
	default:
		s.spec.Syscalls = f
	}
	return nil
}

// cpu takes cores. A request is a weight: 1,024 shares a core. It is the limit where there is none, unless os/linux/cpu-shares says otherwise.
func (s *isolating) cpu(v *types.ResourceCPU) error {
	limit, request, err := quantities(v, func(q *resource.Quantity) int64 { return q.MilliValue() })
	if err != nil {
		return err
	}
	l := &s.spec.Limits
	l.NanoCPUs = limit * 1e6
	if request == 0 {
		request = limit
	}
	if l.CPUShares == 0 || !s.has(types.LinuxCPUSharesName) {
		l.CPUShares = min(max(request*1024/1000, 2), 262144)
	}
	return nil
}

func (s *isolating) has(name string) bool {
	return slices.ContainsFunc(s.results, func(i Isolation) bool { return i.Name == name })
}

// minMemory is what dockerd allows at least, in bytes.
const minMemory = 6 << 20

// memory takes bytes. A request is a soft limit; one that is missing would be the limit itself, where a soft one does nothing.
func (s *isolating) memory(v *types.ResourceMemory) error {
	limit, request, err := quantities(v, func(q *resource.Quantity) int64 { return q.Value() })
	if err != nil {
		return err
	}
	if limit != 0 && limit < minMemory {
		return errs.New(errs.Invalid, "a limit of %d bytes is too low: nothing can start with less than %d", limit, minMemory)
	}
	s.spec.Limits.Memory, s.spec.Limits.MemoryReservation = limit, request
	return nil
}

// quantities are limit and request in base units, 0 where there is none.
func quantities(r types.Resource, value func(*resource.Quantity) int64) (limit, request int64, err error) {
	for _, q := range []struct {
		from *resource.Quantity
		to   *int64
		what string
	}{{r.Limit(), &limit, "limit"}, {r.Request(), &request, "request"}} {
		if q.from == nil {
			continue
		}
		if *q.to = value(q.from); *q.to <= 0 || q.from.CmpInt64(1<<50) > 0 {
			return 0, 0, errs.New(errs.Invalid, "%s %s is not a sensible amount", q.what, q.from)
		}
	}
	if limit != 0 && request > limit {
		return 0, 0, errs.New(errs.Invalid, "the request %s is more than the limit %s", r.Request(), r.Limit())
	}
	return limit, request, nil
}

// bound gives the app the pod's limits where it has none, or higher ones.
func (s *isolating) bound(pod *brig.Limits) {
	for _, l := range []struct {
		app, pod *int64
		name     string
	}{
		{&s.spec.Limits.Memory, &pod.Memory, types.ResourceMemoryName}, {&s.spec.Limits.NanoCPUs, &pod.NanoCPUs, types.ResourceCPUName},
	} {
		if *l.pod == 0 || *l.app != 0 && *l.app <= *l.pod {
			continue
		}
		if i := slices.IndexFunc(s.results, func(i Isolation) bool { return i.Name == l.name }); *l.app != 0 && i >= 0 {
			s.results[i].Result, s.results[i].Why = Modified, "the pod's limit is lower"
		}
		*l.app = *l.pod
	}
	if r := &s.spec.Limits.MemoryReservation; pod.Memory != 0 {
		*r = min(*r, pod.Memory)
	}
}
