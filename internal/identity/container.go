package identity

import (
	"cmp"
	"maps"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
)

// Annotations of a Docker container's pod: its ID and its name, which an app's name can't always be.
const (
	annotationID   = "io.brig.container.id"
	annotationName = "io.brig.container.name"
)

// Container projects a container that runs to the reified manifest of a pod of one app. What appc has no words for is left out.
func Container(c *brig.Container, img Image, imageName string) *schema.PodManifest {
	pm := schema.BlankPodManifest()
	pm.Volumes, pm.Isolators, pm.Ports = []types.Volume{}, []types.Isolator{}, []types.ExposedPort{}
	pm.Annotations.Set(annotationID, string(c.ID))
	pm.Annotations.Set(annotationName, c.Name)
	app := schema.RuntimeApp{Name: acName(c.Name, "app"), ReadOnlyRootFS: c.Spec.ReadOnly, App: app(c)}
	if id, err := types.NewHash(img.ID); err == nil {
		app.Image.ID = *id
	}
	if name, err := types.NewACIdentifier(imageName); err == nil {
		app.Image.Name = name
	}
	for _, k := range slices.Sorted(maps.Keys(c.Spec.Labels)) {
		if name, err := types.NewACIdentifier(k); err == nil {
			app.Annotations.Set(*name, c.Spec.Labels[k])
		}
	}
	volumes(c, pm, &app)
	ports(c, pm, app.App)
	pm.Apps = schema.AppList{app}
	return pm
}

// Names in appc's alphabets (aci.md, "AC Name Type"; schema/types, environment.go).
var (
	notACName = regexp.MustCompile(`[^a-z0-9]+`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9.-]*$`)
)

// acName makes an AC name of s; instead if nothing of s can be in one. types.SanitizeACName leaves two hyphens together, which none may have.
func acName(s, instead string) types.ACName {
	return types.ACName(cmp.Or(strings.Trim(notACName.ReplaceAllString(strings.ToLower(s), "-"), "-"), instead))
}

// app is what is executed.
func app(c *brig.Container) *types.App {
	s := &c.Spec
	a := &types.App{
		Exec: slices.Concat(s.Entrypoint, s.Cmd), WorkingDirectory: cmp.Or(s.WorkingDir, "/"),
		Environment: types.Environment{}, MountPoints: []types.MountPoint{}, Ports: []types.Port{}, Isolators: types.Isolators{},
	}
	a.User, a.Group, _ = strings.Cut(s.User, ":")
	a.User = cmp.Or(a.User, "0")
	a.Group = cmp.Or(a.Group, a.User)
	for _, g := range s.GroupAdd {
		if n, err := strconv.Atoi(g); err == nil {
			a.SupplementaryGIDs = append(a.SupplementaryGIDs, n)
		}
	}
	for _, kv := range s.Env {
		if k, v, ok := strings.Cut(kv, "="); ok && envName.MatchString(k) {
			a.Environment.Set(k, v)
		}
	}
	if s.Limits.Memory > 0 {
		amount := strconv.FormatInt(s.Limits.Memory, 10)
		if m, err := types.NewResourceMemoryIsolator(amount, amount); err == nil {
			a.Isolators = append(a.Isolators, m.AsIsolator())
		}
	}
	if s.Limits.NanoCPUs > 0 {
		amount := strconv.FormatInt(s.Limits.NanoCPUs/1e6, 10) + "m"
		if r, err := types.NewResourceCPUIsolator(amount, amount); err == nil {
			a.Isolators = append(a.Isolators, r.AsIsolator())
		}
	}
	return a
}

// volumes are named after where they are mounted, numbered where two places give one name.
func volumes(c *brig.Container, pm *schema.PodManifest, app *schema.RuntimeApp) {
	used := map[types.ACName]int{}
	for _, m := range c.Mounts {
		name := acName(path.Join("volume", m.Target), "volume")
		if used[name]++; used[name] > 1 {
			name += types.ACName("-" + strconv.Itoa(used[name]))
		}
		v := types.Volume{Name: name, Kind: "empty"}
		readOnly := !m.RW
		v.ReadOnly = &readOnly
		if m.Type == brig.MountBind {
			recursive := !m.NonRecur
			v.Kind, v.Source, v.Recursive = "host", m.Source, &recursive
		} else {
			mode, root := "0755", 0
			v.Mode, v.UID, v.GID, v.ReadOnly = &mode, &root, &root, nil
		}
		pm.Volumes = append(pm.Volumes, v)
		app.App.MountPoints = append(app.App.MountPoints, types.MountPoint{Name: name, Path: m.Target, ReadOnly: readOnly})
		app.Mounts = append(app.Mounts, schema.Mount{Volume: name, Path: m.Target})
	}
}

// ports are named by number and protocol. On the host each has where it was published first.
func ports(c *brig.Container, pm *schema.PodManifest, app *types.App) {
	add := func(p brig.Port) types.ACName {
		name := types.ACName(strconv.Itoa(int(p.Number)) + "-" + p.Proto)
		if !slices.ContainsFunc(app.Ports, func(x types.Port) bool { return x.Name == name }) {
			app.Ports = append(app.Ports, types.Port{Name: name, Protocol: p.Proto, Port: uint(p.Number), Count: 1})
		}
		return name
	}
	for _, p := range c.Spec.Exposed {
		add(p)
	}
	for _, n := range slices.Sorted(maps.Keys(c.Endpoints)) {
		for _, b := range c.Endpoints[n].Ports {
			name := add(b.Port)
			if !slices.ContainsFunc(pm.Ports, func(x types.ExposedPort) bool { return x.Name == name }) {
				pm.Ports = append(pm.Ports, types.ExposedPort{Name: name, HostPort: uint(b.HostPort), HostIP: net.ParseIP(b.HostIP)})
			}
		}
	}
}
