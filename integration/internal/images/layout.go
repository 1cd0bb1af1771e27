package images

import (
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

const refName = "org.opencontainers.image.ref.name"

// Save writes the set's images as an OCI image layout into the folder dir, with their names, for a host that can't make them.
func (s Set) Save(dir string) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, tag := range slices.Sorted(maps.Keys(s)) {
		img, ok := s[tag].(v1.Image)
		if !ok {
			continue // an index is made everywhere
		}
		if err := to.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			return fmt.Errorf("save %s: %w", tag, err)
		}
	}
	return nil
}

// Saved reads what Save has written.
func Saved(dir string) (Set, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read the images in %s: %w", dir, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	s := Set{}
	for _, d := range m.Manifests {
		if s[d.Annotations[refName]], err = index.Image(d.Digest); err != nil {
			return nil, fmt.Errorf("read %s in %s: %w", d.Digest, dir, err)
		}
	}
	return s, nil
}
