// Package identity makes what the metadata service is told of a pod (appc spec 0.8.11, ace.md). It does no I/O.
package identity

import (
	"encoding/json"

	"github.com/appc/spec/schema"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
)

// Image is what is known of an app's image.
type Image struct {
	ID       string // the ACI's, "sha512-…"; "": not known yet
	Manifest []byte // exact bytes of its appc manifest; nil: the image is gone
}

// Of describes the pod uuid of a reified manifest. images are its apps', in the same order.
func Of(uuid string, pm *schema.PodManifest, images []Image, places []brig.PodPlace) (brig.PodIdentity, error) {
	out := brig.PodIdentity{UUID: uuid, Places: places, Apps: []brig.AppIdentity{}}
	if len(images) != len(pm.Apps) {
		return out, errs.New(errs.Internal, "pod %s has %d apps and %d images", uuid, len(pm.Apps), len(images))
	}
	whole := true
	for i := range pm.Apps {
		a, img := &pm.Apps[i], images[i]
		app := brig.AppIdentity{Name: a.Name.String(), ImageID: img.ID, Image: img.Manifest}
		im, err := &schema.ImageManifest{}, error(nil)
		if len(img.Manifest) > 0 {
			if im, _, err = podspec.ParseImage(img.Manifest); err != nil {
				return out, errs.Wrap(err, "appc manifest of app %s", a.Name)
			}
		}
		if app.Annotations, err = json.Marshal(podspec.Annotations(im.Annotations, a.Annotations)); err != nil {
			return out, errs.Wrap(err, "annotations of app %s", a.Name)
		}
		out.Apps = append(out.Apps, app)
		whole = whole && img.ID != ""
	}
	var err error
	if out.Annotations, err = json.Marshal(podspec.Annotations(pm.Annotations, nil)); err != nil {
		return out, errs.Wrap(err, "annotations of pod %s", uuid)
	}
	if whole { // the schema allows no app without an image ID
		if out.Manifest, err = json.Marshal(pm); err != nil {
			return out, errs.Wrap(err, "manifest of pod %s", uuid)
		}
	}
	return out, nil
}
