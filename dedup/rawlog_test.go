package dedup

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// An init that expires between the look at the bounds of the log and the reading is no other program's record.
func TestInitExpiresMeanwhile(t *testing.T) {
	w := newRig(t)
	w.write(0, 1)
	if init, err := readInit(w.ctx, w.opts, rawName, 0); init == nil || err != nil {
		t.Fatalf("found %v, error %v", init, err)
	}
	first := kadm.Offsets{}
	first.AddOffset(rawName, 0, 1, -1)
	if _, err := w.adm.DeleteRecords(w.ctx, first); err != nil {
		t.Fatal(err)
	}
	if init, err := readInit(w.ctx, w.opts, rawName, 0); init != nil || err != nil {
		t.Errorf("found %v, error %v; expected none of both", init, err)
	}
}
