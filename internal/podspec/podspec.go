// Package podspec is the meaning of appc's pods (spec 0.8.11: pods.md, ace.md, aci.md) in brig's words: it makes a reified pod manifest of
// what was asked for and of the images' manifests, and of that one brig.Spec for each app. It does no I/O: what only the host or an
// image's files can tell (that a path is there, who owns it) is left to runtime and jailer, and said in the Spec.
package podspec

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A Request asks for a pod: by a manifest, by a list of apps, or by both (the apps come after the manifest's). What the other lists say wins
// over the manifest's of the same name.
type Request struct {
	Manifest    json.RawMessage `json:"manifest,omitempty"` // a pod manifest, or a template of one: image IDs, names and mounts may be missing
	Apps        []AppOptions    `json:"apps,omitempty"`
	Volumes     []string        `json:"volumes,omitempty"`     // see parseVolume
	Ports       []string        `json:"ports,omitempty"`       // see parsePort
	Annotations []string        `json:"annotations,omitempty"` // NAME=VALUE
	Isolators   []string        `json:"isolators,omitempty"`   // NAME=JSON, the pod's
	Strict      bool            `json:"strict,omitempty"`      // refuse what would be ignored, and mount points that nothing was named for
}

// AppOptions are what is asked of one app. Empty means: as the image says.
type AppOptions struct {
	Image             string   `json:"image"`          // as the user names it
	Name              string   `json:"name,omitempty"` // "": the last part of the image's name
	Annotations       []string `json:"annotations,omitempty"`
	Mounts            []string `json:"mounts,omitempty"` // VOLUME:PATH; a PATH that isn't absolute is the name of a mount point
	Env               []string `json:"env,omitempty"`    // NAME=VALUE
	Exec              []string `json:"exec,omitempty"`   // in place of the image's
	Args              []string `json:"args,omitempty"`   // after it
	User              string   `json:"user,omitempty"`
	Group             string   `json:"group,omitempty"`
	SupplementaryGIDs []int    `json:"supplementaryGIDs,omitempty"`
	WorkingDirectory  string   `json:"workingDirectory,omitempty"`
	ReadOnlyRootFS    bool     `json:"readOnlyRootFS,omitempty"`
	Isolators         []string `json:"isolators,omitempty"` // NAME=JSON, in place of the image's of the same name
}

// Wanted says which image an app wants: by reference, or without one by what the manifest says of it.
type Wanted struct {
	Ref    string
	ID     string // "sha512-…"; "": any
	Name   string // appc name; "": any
	Labels map[string]string
}

// Image is what is known of an image that an app shall have.
type Image struct {
	Ref      string           // that containers name it by
	ID       string           // the ACI's, "sha512-…"
	Manifest []byte           // exact bytes of its appc manifest
	Config   brig.ImageConfig // its Docker side
}

// A Pod is what a request and its images make.
type Pod struct {
	Manifest  *schema.PodManifest // reified
	Volumes   []Volume            // empty ones, to be made with the pod and removed with it
	Ports     []brig.PortBinding  // of the pod's network, on the host
	Apps      []App               // in the manifest's order
	Isolators []Isolation         // what became of each isolator
	Warnings  []string
}

// Document returns the reified manifest's bytes.
func (p *Pod) Document() ([]byte, error) {
	b, err := json.Marshal(p.Manifest)
	return b, errs.As(errs.Invalid, errs.Wrap(err, "write the pod manifest"))
}

// A Volume is an empty directory that apps mount by its Key.
type Volume struct {
	Key      string // NAME, or APP/NAME for one that an app has to itself; brig.Mount's Source has it until the caller gives its volume's name
	App      string // "": the pod's
	Name     string
	Mode     uint32 // permission bits
	UID, GID int
}

// An App is one app of a pod.
type App struct {
	Name string
	Spec brig.Spec // complete: nothing is to be taken over from the image
}

// What can become of an isolator.
const (
	Enforced = "enforced" // as far as the host can; what it can't, the start warns of
	Modified = "modified"
	Ignored  = "ignored"
)

// Isolation is what becomes of one isolator.
type Isolation struct {
	App    string `json:"app,omitempty"` // "": the pod's
	Name   string `json:"name"`
	Result string `json:"result"`
	Why    string `json:"why,omitempty"`
}

// Images lists the images that the request's apps want, in the order of apps.
func (r *Request) Images() ([]Wanted, error) {
	pm, _, err := r.template()
	if err != nil {
		return nil, err
	}
	var out []Wanted
	for _, a := range pm.Apps {
		w := Wanted{Labels: map[string]string{}}
		if !a.Image.ID.Empty() {
			w.ID = a.Image.ID.String()
		}
		if a.Image.Name != nil {
			w.Name = a.Image.Name.String()
		}
		for _, l := range a.Image.Labels {
			w.Labels[l.Name.String()] = l.Value
		}
		if w.ID == "" && w.Name == "" {
			return nil, errs.New(errs.Invalid, "the app %q has no image: give its id or its name", a.Name)
		}
		out = append(out, w)
	}
	for _, a := range r.Apps {
		if a.Image == "" {
			return nil, errs.New(errs.Invalid, "an app has no image")
		}
		out = append(out, Wanted{Ref: a.Image})
	}
	if len(out) == 0 {
		return nil, errs.New(errs.Invalid, "the pod has no apps")
	}
	return out, nil
}

// template returns the request's manifest, blank if it has none, and the isolators in it that nobody knows.
func (r *Request) template() (*schema.PodManifest, []Unknown, error) {
	if len(r.Manifest) == 0 || string(r.Manifest) == "null" {
		return schema.BlankPodManifest(), nil, nil
	}
	return ParsePod(r.Manifest)
}

// Reify makes the pod. images are those that Images lists, in its order. Errors are Invalid.
func Reify(r Request, images []Image) (*Pod, error) {
	pm, unknown, err := r.template()
	if err != nil {
		return nil, err
	}
	if n := len(pm.Apps) + len(r.Apps); n != len(images) {
		return nil, errs.New(errs.Internal, "%d images for %d apps", len(images), n)
	}
	p := &Pod{Manifest: pm}
	if err := r.settings(pm); err != nil {
		return nil, err
	}
	b := &builder{pod: p, strict: r.Strict}
	for i := range images {
		im, more, err := ParseImage(images[i].Manifest)
		if err != nil {
			return nil, errs.Wrap(err, "image %s", images[i].Ref)
		}
		if i < len(images)-len(r.Apps) {
			err = b.listed(&pm.Apps[i], im, &images[i])
		} else {
			err = b.added(r.Apps[i-len(images)+len(r.Apps)], im, &images[i])
		}
		if err != nil {
			return nil, err
		}
		name := pm.Apps[i].Name
		if own := i < len(images)-len(r.Apps) && pm.Apps[i].App != im.App; !own {
			for _, u := range more {
				unknown = append(unknown, Unknown{name.String(), u.Name, u.Value})
			}
		}
		if slices.ContainsFunc(pm.Apps[:i], func(a schema.RuntimeApp) bool { return a.Name == name }) {
			return nil, errs.New(errs.Invalid, "two apps of the pod are called %q: give one another name", name)
		}
		b.images = append(b.images, im)
	}
	if err := b.build(unknown, images); err != nil {
		return nil, err
	}
	if _, err := p.Document(); err != nil {
		return nil, err
	}
	return p, nil
}

// settings puts what the request says of the whole pod into its manifest.
func (r *Request) settings(pm *schema.PodManifest) error {
	for _, s := range r.Volumes {
		v, err := parseVolume(s)
		if err != nil {
			return err
		}
		pm.Volumes = slices.DeleteFunc(pm.Volumes, func(o types.Volume) bool { return o.Name == v.Name })
		pm.Volumes = append(pm.Volumes, *v)
	}
	for _, s := range r.Ports {
		p, err := parsePort(s)
		if err != nil {
			return err
		}
		pm.Ports = append(pm.Ports, *p)
	}
	for _, s := range r.Annotations {
		name, value, err := parseAnnotation(s)
		if err != nil {
			return err
		}
		pm.Annotations.Set(name, value)
	}
	for _, s := range r.Isolators {
		i, err := parseIsolator(s)
		if err != nil {
			return err
		}
		list := types.Isolators(pm.Isolators)
		list.ReplaceIsolatorsByName(*i, []types.ACIdentifier{i.Name})
		pm.Isolators = list
	}
	return nil
}

// A builder makes one pod.
type builder struct {
	pod    *Pod
	strict bool
	images []*schema.ImageManifest // of the apps so far
}

func (b *builder) warn(format string, args ...any) {
	b.pod.Warnings = append(b.pod.Warnings, fmt.Sprintf(format, args...))
}

// listed completes an app of the manifest, whose image must be the one that it says.
func (b *builder) listed(a *schema.RuntimeApp, im *schema.ImageManifest, img *Image) error {
	if !a.Image.ID.Empty() && a.Image.ID.String() != img.ID {
		return errs.New(errs.Invalid, "app %s: image %s has the ID %s, not %s", a.Name, img.Ref, img.ID, a.Image.ID)
	}
	if a.Image.Name != nil && *a.Image.Name != im.Name {
		return errs.New(errs.Invalid, "app %s: image %s is called %s, not %s", a.Name, img.Ref, im.Name, *a.Image.Name)
	}
	for _, l := range a.Image.Labels {
		has, ok := im.Labels.Get(l.Name.String())
		if latest := l.Name == "version" && l.Value == "latest"; !latest && (!ok || has != l.Value) {
			return errs.New(errs.Invalid, "app %s: image %s has the label %s=%q, not %q", a.Name, img.Ref, l.Name, has, l.Value)
		}
	}
	if a.App == nil {
		a.App = im.App
	}
	return b.complete(a, im, img)
}

// added appends an app that the request's options describe.
func (b *builder) added(o AppOptions, im *schema.ImageManifest, img *Image) error {
	name, err := appName(o.Name, im)
	if err != nil {
		return err
	}
	a := schema.RuntimeApp{Name: name, ReadOnlyRootFS: o.ReadOnlyRootFS}
	if a.App, err = o.app(im); err != nil {
		return errs.Wrap(err, "app %s", name)
	}
	for _, s := range o.Mounts {
		m, err := parseMount(s, a.App.MountPoints)
		if err != nil {
			return errs.Wrap(err, "app %s", name)
		}
		a.Mounts = append(a.Mounts, *m)
	}
	for _, s := range o.Annotations {
		key, value, err := parseAnnotation(s)
		if err != nil {
			return errs.Wrap(err, "app %s", name)
		}
		a.Annotations.Set(key, value)
	}
	if err := b.complete(&a, im, img); err != nil {
		return err
	}
	b.pod.Manifest.Apps = append(b.pod.Manifest.Apps, a)
	return nil
}

// complete names the app's image for good, and checks that there is something to run.
func (b *builder) complete(a *schema.RuntimeApp, im *schema.ImageManifest, img *Image) error {
	if a.App == nil || len(a.App.Exec) == 0 || a.App.Exec[0] == "" {
		return errs.New(errs.Invalid, "app %s: no command specified: the image %s has none", a.Name, img.Ref)
	}
	id, err := types.NewHash(img.ID)
	if err != nil {
		return errs.New(errs.Invalid, "app %s: image %s has no ACI ID (%q): %w", a.Name, img.Ref, img.ID, err)
	}
	name := im.Name
	a.Image = schema.RuntimeImage{Name: &name, ID: *id, Labels: slices.Clone(im.Labels)}
	return nil
}

// appName is the name asked for, else the last part of the image's name.
func appName(asked string, im *schema.ImageManifest) (types.ACName, error) {
	if asked != "" {
		n, err := types.NewACName(asked)
		if err != nil {
			return "", errs.New(errs.Invalid, "invalid name of an app: %q: %w", asked, err)
		}
		return *n, nil
	}
	s, err := types.SanitizeACName(path.Base(im.Name.String()))
	if err != nil {
		return "", errs.New(errs.Invalid, "the image's name %q makes no name for an app: give one", im.Name)
	}
	return types.ACName(strings.Trim(s, "-")), nil
}

// fromDocker says whether the image's appc manifest is a projection of a Docker config.
func fromDocker(im *schema.ImageManifest) bool {
	_, ok := im.Annotations.Get("appc.io/docker/imageid")
	return ok
}
