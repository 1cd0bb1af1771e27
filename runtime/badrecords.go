package runtime

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// BadRecords finds the records of containers, volumes, images and references that NewContainers and NewImages could not load.
func BadRecords(ctx context.Context, from Records) (bad []brig.BadRecord, err error) {
	images := map[brig.Digest]bool{}
	for _, k := range []struct {
		kind  string
		check func(key string, value []byte) error
	}{
		{kindContainer, readContainer},
		{kindVolume, readVolume},
		{kindImage, func(key string, value []byte) error {
			var img brig.Image
			err := json.Unmarshal(value, &img)
			if err == nil && img.ID.Hex() != key {
				err = errOtherKey
			}
			images[img.ID] = err == nil
			return err
		}},
		{kindRef, func(_ string, value []byte) error {
			var ref refRecord
			err := json.Unmarshal(value, &ref)
			if err == nil && !images[ref.Image] {
				err = errs.New(errs.Internal, "its image %s has no record", ref.Image)
			}
			return err
		}},
	} {
		list, err := from.List(ctx, k.kind)
		if err != nil {
			return nil, errs.Wrap(err, "read the records of kind %s", k.kind)
		}
		for _, r := range list {
			if err := k.check(r.Key, r.Value); err != nil {
				bad = append(bad, brig.BadRecord{Kind: k.kind, Key: r.Key, Problem: err.Error()})
			}
		}
	}
	return bad, namesOfBad(ctx, from, bad)
}

var errOtherKey = errors.New("it is another one's")

func readContainer(key string, value []byte) error {
	var v containerRecord
	err := json.Unmarshal(value, &v)
	switch {
	case err != nil:
	case string(v.ID) != key:
		err = errOtherKey
	case v.Name == "" || v.RootFS == "":
		err = errors.New("it has no name or no root file system")
	}
	return err
}

func readVolume(key string, value []byte) error {
	var v brig.Volume
	err := json.Unmarshal(value, &v)
	switch {
	case err != nil:
	case v.Name != key:
		err = errOtherKey
	case v.Dataset == "":
		err = errors.New("it has no dataset")
	}
	return err
}

// namesOfBad finds the names of containers that can't be loaded: they go with them.
func namesOfBad(ctx context.Context, from Records, bad []brig.BadRecord) error {
	names, err := from.List(ctx, kindName)
	if err != nil {
		return errs.Wrap(err, "read the names of containers")
	}
	for i := range bad {
		for _, n := range names {
			if bad[i].Kind == kindContainer && string(n.Value) == bad[i].Key {
				bad[i].Also = append(bad[i].Also, n)
			}
		}
	}
	return nil
}
