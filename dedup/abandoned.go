package dedup

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// abandonTimeout bounds the search for abandoned transactions. Without it nothing is wrong, it only takes longer: the brokers abort a
// transaction after transactionTimeout.
const abandonTimeout = 5 * time.Second

// sessionSuffix is what follows the group's name in that of a session: the id of a state directory and a number. With it, no
// session of a group whose name begins with that of this one is taken for one of this group.
var sessionSuffix = regexp.MustCompile(`^-[A-Z2-7]{26}-\d+$`)

// endAbandoned aborts the transactions of sessions that are not in the group any more: of workers that died, and whose
// partitions others have now. Until then consumers of committed records wait before their first record, in all clean partitions that they
// wrote to, for whatever comes after it.
//
// A session that is not in the group cannot commit. If one lives all the same, as one does that was paused, it finds its producer fenced and
// begins anew.
func (w *Worker) endAbandoned(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, abandonTimeout)
	defer cancel()
	names, err := w.abandoned(ctx)
	for _, name := range names {
		failure := w.abortTransaction(ctx, name)
		if failure == nil {
			w.cfg.Log.Info("aborted the transaction of a session that is not in the group any more", zap.String("session", name))
		}
		err = errors.Join(err, failure)
	}
	if err != nil && ctx.Err() == nil {
		w.cfg.Log.Debug("transactions of sessions that are gone are not looked for; the brokers abort them", zap.Error(err))
	}
}

// abandoned are the sessions that have a transaction under way and are not in the group. The transactions are asked for first: a
// session is in the group before it begins one.
func (w *Worker) abandoned(ctx context.Context) ([]string, error) {
	adm := kadm.NewClient(w.admin)
	listed, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return nil, fmt.Errorf("list the transactions: %w", err)
	}
	var open []string
	for _, txn := range listed.Sorted() {
		suffix, ok := strings.CutPrefix(txn.TxnID, w.cfg.Group)
		if ok && sessionSuffix.MatchString(suffix) && txn.State == "Ongoing" {
			open = append(open, txn.TxnID)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	groups, err := adm.DescribeGroups(ctx, w.cfg.Group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("describe the group %s: %w", w.cfg.Group, err)
	}
	members := map[string]bool{}
	for _, m := range groups[w.cfg.Group].Members {
		if m.InstanceID != nil {
			members[*m.InstanceID] = true
		}
	}
	var gone []string
	for _, name := range open {
		if !members[name] {
			gone = append(gone, name)
		}
	}
	return gone, nil
}

// abortTransaction lets the coordinator abort what a producer has under way, as a new producer of that name does when it begins.
func (w *Worker) abortTransaction(ctx context.Context, name string) error {
	var wait backoff
	for {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = kmsg.StringPtr(name)
		req.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = -1, -1
		resp, err := req.RequestWith(ctx, w.admin)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) || ctx.Err() != nil {
			return fmt.Errorf("abort the transaction of %s: %w", name, err)
		}
		wait.wait(ctx) // the abort is under way
	}
}
