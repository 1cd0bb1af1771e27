package podspec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// build makes the settings and Specs of a pod whose manifest has all its apps.
func (b *builder) build(unknown []Unknown, images []Image) error {
	p := b.pod
	var bound brig.Spec // what the pod's isolators say, in an app's words
	iso := isolating{spec: &bound, pod: true}
	if err := iso.apply(p.Manifest.Isolators, ofApp(unknown, "")); err != nil {
		return errs.Wrap(err, "the pod")
	}
	p.Isolators = iso.results
	used := map[string]bool{}
	for i := range p.Manifest.Apps {
		a := &p.Manifest.Apps[i]
		s, err := b.spec(a, b.images[i], &images[i], used)
		if err != nil {
			return errs.Wrap(err, "app %s", a.Name)
		}
		iso := isolating{spec: s, app: a.Name.String()}
		if err := iso.apply(a.App.Isolators, ofApp(unknown, a.Name.String())); err != nil {
			return errs.Wrap(err, "app %s", a.Name)
		}
		iso.bound(&bound.Limits)
		s.Sysctls = bound.Sysctls
		p.Isolators = append(p.Isolators, iso.results...)
		p.Apps = append(p.Apps, App{Name: a.Name.String(), Spec: *s})
	}
	for _, v := range p.Manifest.Volumes {
		if !used[v.Name.String()] {
			b.warn("volume %s: no app mounts it", v.Name)
		}
	}
	if err := b.ports(); err != nil {
		return err
	}
	return b.judge()
}

// judge warns of isolators that are ignored; with strict it refuses them.
func (b *builder) judge() error {
	var ignored []string
	for _, i := range b.pod.Isolators {
		if i.Result == Enforced {
			continue
		}
		whose := "the pod's"
		if i.App != "" {
			whose = "app " + i.App + "'s"
		}
		text := whose + " isolator " + i.Name + " is " + i.Result + ": " + i.Why
		if i.Result == Ignored {
			ignored = append(ignored, text)
		}
		b.warn("%s", text)
	}
	if b.strict && len(ignored) > 0 {
		return errs.New(errs.Invalid, "not all isolators can be enforced: %s", strings.Join(ignored, "; "))
	}
	return nil
}

func ofApp(all []Unknown, app string) []Unknown {
	return slices.DeleteFunc(slices.Clone(all), func(u Unknown) bool { return u.App != app })
}

// spec makes what runs of an app but for its isolators. Its mounts are completed in the manifest.
func (b *builder) spec(a *schema.RuntimeApp, im *schema.ImageManifest, img *Image, used map[string]bool) (*brig.Spec, error) {
	s := &brig.Spec{
		Image: img.Ref, Entrypoint: a.App.Exec, WorkingDir: a.App.WorkingDirectory, ReadOnly: a.ReadOnlyRootFS, Labels: a.App.UserLabels,
		StopSignal: img.Config.StopSignal, Health: img.Config.Health, Shell: img.Config.Shell,
	}
	for _, e := range a.App.Environment {
		if e.Name != "AC_APP_NAME" && e.Name != "container" {
			s.Env = append(s.Env, e.Name+"="+e.Value)
		}
	}
	s.Env = append(s.Env, "AC_APP_NAME="+a.Name.String(), "container=brig")
	var err error
	if s.User, err = User(a.App, fromDocker(im)); err != nil {
		return nil, err
	}
	own(s, a.App, fromDocker(im))
	var warnings []string
	s.Exposed, warnings = exposed(a.App.Ports)
	for _, w := range warnings {
		b.warn("app %s: %s", a.Name, w)
	}
	return s, b.mounts(a, s, fromDocker(im), used)
}

// own sets what of an app Docker has no words for.
func own(s *brig.Spec, a *types.App, docker bool) {
	for _, g := range a.SupplementaryGIDs {
		s.GroupAdd = append(s.GroupAdd, strconv.Itoa(g))
	}
	for _, h := range a.EventHandlers {
		switch {
		case len(h.Exec) == 0:
		case h.Name == "pre-start":
			s.PreStart = h.Exec
		case h.Name == "post-stop":
			s.PostStop = h.Exec
		}
	}
	s.CwdExists = !docker && a.WorkingDirectory != "" // Docker makes a missing one
	for _, p := range a.Ports {
		if p.SocketActivated {
			list, _ := exposed([]types.Port{p})
			s.Sockets = append(s.Sockets, list...)
		}
	}
}

// User gives an app's user and group as brig.Spec.User has them: names, numbers, or absolute paths whose owner is meant, with a colon between.
func User(a *types.App, docker bool) (string, error) {
	for _, s := range []string{a.User, a.Group} {
		if strings.Contains(s, ":") {
			return "", errs.New(errs.Invalid, "user or group %q: brig can't have a colon in it", s)
		}
		if strings.HasPrefix(s, "/") && path.Clean(s) != s {
			return "", errs.New(errs.Invalid, "user or group %q: not a clean path", s)
		}
	}
	switch {
	case docker && a.User == "0" && a.Group == "0":
		return "", nil
	case docker && a.User == a.Group:
		return a.User, nil
	}
	return a.User + ":" + a.Group, nil
}

// exposed lists an app's ports one by one; warnings name those that no network of brig's can have.
func exposed(ports []types.Port) (out []brig.Port, warnings []string) {
	for _, p := range ports {
		if !transport(p.Protocol) {
			warnings = append(warnings, "port "+p.Name.String()+" is left out: there is no protocol "+strconv.Quote(p.Protocol))
			continue
		}
		for n := range max(p.Count, 1) {
			out = append(out, brig.Port{Number: uint16(p.Port + n), Proto: p.Protocol})
		}
	}
	return out, warnings
}

func transport(proto string) bool { return proto == "tcp" || proto == "udp" || proto == "sctp" }

// ports publishes what the manifest exposes on the host.
func (b *builder) ports() error {
	pm := b.pod.Manifest
	for _, e := range pm.Ports {
		port, err := e.PodPort, error(nil)
		if port == nil {
			if port, err = findPort(pm.Apps, e.Name); err != nil {
				return err
			}
		}
		count := max(port.Count, 1)
		switch {
		case e.HostPort == 0 || e.HostPort+count-1 > 65535:
			return errs.New(errs.Invalid, "port %s: %d ports from %d on are not from 1 to 65535", e.Name, count, e.HostPort)
		case !transport(port.Protocol):
			return errs.New(errs.Invalid, "port %s: there is no protocol %q", e.Name, port.Protocol)
		}
		ip := ""
		if len(e.HostIP) > 0 {
			ip = e.HostIP.String()
		}
		for n := range count {
			b.pod.Ports = append(b.pod.Ports, brig.PortBinding{
				Port: brig.Port{Number: uint16(port.Port + n), Proto: port.Protocol}, HostIP: ip, HostPort: uint16(e.HostPort + n),
			})
		}
	}
	return nil
}

// findPort finds the one port of that name among the apps.
func findPort(apps schema.AppList, name types.ACName) (*types.Port, error) {
	var found *types.Port
	var of, all []string
	for _, a := range apps {
		for _, p := range a.App.Ports {
			all = append(all, p.Name.String())
			if p.Name == name {
				found = &p
				of = append(of, a.Name.String())
			}
		}
	}
	switch len(of) {
	case 0:
		return nil, errs.New(errs.Invalid, "port %s: no app has a port of that name; those that there are: %s", name, strings.Join(all, ", "))
	case 1:
		return found, nil
	}
	return nil, errs.New(errs.Invalid, "port %s: the apps %s all have a port of that name: say with podPort which is meant", name, strings.Join(of, ", "))
}
