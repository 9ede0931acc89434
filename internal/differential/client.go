package differential

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// The numbers of version 4 of the native protocol that are used here.
const (
	protocolVersion = 4
	protocolReply   = 0x80 | protocolVersion
	protocolHeader  = 9

	opError   = 0x00
	opStartup = 0x01
	opReady   = 0x02
	opResult  = 0x08
	opPrepare = 0x09
	opExecute = 0x0a
	opBatch   = 0x0d

	consistencyOne    = 1
	consistencyTwo    = 2
	consistencyQuorum = 4
	consistencyAll    = 5

	flagValues       = 0x01
	flagWarnings     = 0x08
	flagSkipMetadata = 0x02
	resultNoMetadata = 0x04
	resultRows       = 2
	resultPrepared   = 4

	codeWriteTimeout = 0x1100
	codeUnprepared   = 0x2500
)

// maxFrame bounds the answers that are read; none here holds more than an error or the columns of a statement.
const maxFrame = 16 << 20

// answerTimeout is more than the server's own timeouts.
const answerTimeout = time.Minute

// batchType says what a batch promises.
type batchType byte

const (
	loggedBatch   batchType = 0
	unloggedBatch batchType = 1
	counterBatch  batchType = 2
)

// value is what a bind marker stands for, as bytes; nil bytes are null.
type value struct {
	bytes []byte
	unset bool
}

// serverError is an answer of the server.
type serverError struct {
	code    uint32
	message string
}

func (e *serverError) Error() string {
	return fmt.Sprintf("server error 0x%04x: %s", e.code, e.message)
}

// client sends writes over one connection, one at a time. The driver of the rest of the project is no help here, since
// it wants to understand the values that it sends.
type client struct {
	conn     net.Conn
	prepared *preparedIDs
	frame    []byte
	reply    []byte
}

// preparedIDs are the statements that a server has prepared, for all connections. The lock is held while a statement is
// prepared: a server that is asked to prepare what it prepares already forgets the first (QueryProcessor.prepare evicts
// both entries of a statement when it finds one of them).
type preparedIDs struct {
	mu    sync.Mutex
	byCQL map[string]*preparedID
}

// preparedID is the answer to one PREPARE.
type preparedID struct{ id []byte }

// dial connects to a server that asks for no password.
func dial(ctx context.Context, addr string, prepared *preparedIDs) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, prepared: prepared}
	c.begin(opStartup)
	c.u16(1)
	c.str("CQL_VERSION")
	c.str("3.0.0")
	if op, _, err := c.roundTrip(); err != nil || op != opReady {
		conn.Close()
		return nil, fmt.Errorf("start up at %s: expected READY, found opcode %d: %w", addr, op, err)
	}
	return c, nil
}

func (c *client) begin(op byte) {
	c.frame = append(c.frame[:0], protocolVersion, 0, 0, 0, op, 0, 0, 0, 0)
}

func (c *client) u16(n int) { c.frame = binary.BigEndian.AppendUint16(c.frame, uint16(n)) }
func (c *client) u32(n int) { c.frame = binary.BigEndian.AppendUint32(c.frame, uint32(n)) }

func (c *client) str(s string) {
	c.u16(len(s))
	c.frame = append(c.frame, s...)
}

func (c *client) values(values []value) {
	c.u16(len(values))
	for _, v := range values {
		switch {
		case v.unset:
			c.u32(-2)
		case v.bytes == nil:
			c.u32(-1)
		default:
			c.u32(len(v.bytes))
			c.frame = append(c.frame, v.bytes...)
		}
	}
}

// roundTrip sends the frame and reads the answer, which is valid until the next call.
func (c *client) roundTrip() (op byte, body []byte, err error) {
	binary.BigEndian.PutUint32(c.frame[5:], uint32(len(c.frame)-protocolHeader))
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(c.frame); err != nil {
		return 0, nil, err
	}
	var h [protocolHeader]byte
	if _, err := io.ReadFull(c.conn, h[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(h[5:]))
	if h[0] != protocolReply || n > maxFrame {
		return 0, nil, fmt.Errorf("answer of version 0x%02x with %d bytes: expected version 0x%02x and at most %d bytes", h[0], n, protocolReply, maxFrame)
	}
	c.reply = slices.Grow(c.reply[:0], int(n))[:n]
	if _, err := io.ReadFull(c.conn, c.reply); err != nil {
		return 0, nil, err
	}
	r := reply{c.reply}
	if h[1]&flagWarnings != 0 {
		for range r.u16() {
			r.bytes(r.u16())
		}
	}
	if h[4] == opError {
		return 0, nil, &serverError{r.u32(), string(r.bytes(r.u16()))}
	}
	return h[4], r.b, nil
}

// reply reads an answer; what is behind its end is zero.
type reply struct{ b []byte }

func (r *reply) bytes(n int) []byte {
	n = min(n, len(r.b))
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reply) u16() int {
	var b [2]byte
	copy(b[:], r.bytes(2))
	return int(binary.BigEndian.Uint16(b[:]))
}

func (r *reply) u32() uint32 {
	var b [4]byte
	copy(b[:], r.bytes(4))
	return binary.BigEndian.Uint32(b[:])
}

// prepare gives the id of a statement.
func (c *client) prepare(cql string) (*preparedID, error) {
	c.prepared.mu.Lock()
	defer c.prepared.mu.Unlock()
	if id := c.prepared.byCQL[cql]; id != nil {
		return id, nil
	}
	c.begin(opPrepare)
	c.u32(len(cql))
	c.frame = append(c.frame, cql...)
	op, body, err := c.roundTrip()
	if err != nil {
		return nil, err
	}
	r := reply{body}
	if kind := r.u32(); op != opResult || kind != resultPrepared {
		return nil, fmt.Errorf("prepare: expected a prepared statement, found opcode %d, result %d", op, kind)
	}
	id := &preparedID{bytes.Clone(r.bytes(r.u16()))}
	c.prepared.byCQL[cql] = id
	return id, nil
}

// forget makes the next user of a statement prepare it, unless another has done so since.
func (p *preparedIDs) forget(cql string, id *preparedID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byCQL[cql] == id {
		delete(p.byCQL, cql)
	}
}

// run sends a write and waits for the answer. That a conditional write has timed out is no error: what it did stands in
// the log.
func (c *client) run(w *write) error {
	ids := make([]*preparedID, len(w.statements))
	for range 10 {
		err := c.send(w, ids)
		var answer *serverError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &answer) && answer.code == codeUnprepared:
			// The server has forgotten one of them: prepare all again.
			for i, s := range w.statements {
				c.prepared.forget(s.cql, ids[i])
			}
		case errors.As(err, &answer) && answer.code == codeWriteTimeout && (w.consistency > 0 || w.statements[0].conditional):
			return nil
		case errors.As(err, &answer) && w.read:
			return nil // a read is for what it repairs
		default:
			return fmt.Errorf("%w\n%s", err, w)
		}
	}
	return fmt.Errorf("the server forgets at once what it has prepared\n%s", w)
}

// send sends a write once. ids becomes the statements as they were prepared.
func (c *client) send(w *write, ids []*preparedID) error {
	consistency := int(max(w.consistency, consistencyOne))
	for i, s := range w.statements {
		var err error
		if ids[i], err = c.prepare(s.cql); err != nil {
			return err
		}
	}
	if len(w.statements) == 1 {
		c.begin(opExecute)
		c.id(ids[0])
		c.u16(consistency)
		c.frame = append(c.frame, flagValues)
		c.values(w.statements[0].values)
	} else {
		c.begin(opBatch)
		c.frame = append(c.frame, byte(w.batch))
		c.u16(len(w.statements))
		for i, s := range w.statements {
			c.frame = append(c.frame, 1) // prepared
			c.id(ids[i])
			c.values(s.values)
		}
		c.u16(consistency)
		c.frame = append(c.frame, 0)
	}
	op, _, err := c.roundTrip()
	if err == nil && op != opResult {
		err = fmt.Errorf("expected a result, found opcode %d", op)
	}
	return err
}

// query reads all rows of a SELECT at ALL: the values of each.
func (c *client) query(cql string) ([][][]byte, error) {
	id, err := c.prepare(cql)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cql, err)
	}
	c.begin(opExecute)
	c.id(id)
	c.u16(consistencyAll)
	c.frame = append(c.frame, flagSkipMetadata)
	op, body, err := c.roundTrip()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cql, err)
	}
	r := reply{bytes.Clone(body)}
	kind, flags, columns, n := r.u32(), r.u32(), int(r.u32()), int(r.u32())
	if op != opResult || kind != resultRows || flags&resultNoMetadata == 0 {
		return nil, fmt.Errorf("%s: expected rows without metadata, found opcode %d, result %d, flags %#x", cql, op, kind, flags)
	}
	var rows [][][]byte
	for range n {
		row := make([][]byte, columns)
		for i := range row {
			if size := int32(r.u32()); size >= 0 {
				row[i] = append([]byte{}, r.bytes(int(size))...)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (c *client) id(p *preparedID) {
	c.u16(len(p.id))
	c.frame = append(c.frame, p.id...)
}

func (c *client) close() { c.conn.Close() }
