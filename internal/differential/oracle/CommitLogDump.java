import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.db.ClusteringPrefix;
import org.apache.cassandra.db.DeletionTime;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.commitlog.CommitLogReadHandler;
import org.apache.cassandra.db.commitlog.CommitLogReader;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.ColumnData;
import org.apache.cassandra.db.rows.ComplexColumnData;
import org.apache.cassandra.db.rows.RangeTombstoneMarker;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.db.rows.Unfiltered;
import org.apache.cassandra.db.rows.UnfilteredRowIterator;

/**
 * Prints the mutations of one keyspace in commit log segments, as Cassandra's own CommitLogReader hands them out, in the
 * form of "cassdelta segment dump --json".
 *
 * <p>Usage: CommitLogDump SCHEMA KEYSPACE SEGMENT... with the schema as DESCRIBE KEYSPACE ... WITH INTERNALS prints it.
 * The configuration comes from -Dcassandra.config, which for encrypted segments names the keystore.
 *
 * <p>It compiles against 4.0, 4.1 and 5.0: what differs between them is a file class, reached by reflection here and in
 * {@link Schemas}, and the width of some integers.
 */
public final class CommitLogDump implements CommitLogReadHandler
{
    private final String keyspace;
    private final PrintStream out;
    private final StringBuilder line = new StringBuilder();
    private IOException failure;

    private CommitLogDump(String keyspace, PrintStream out)
    {
        this.keyspace = keyspace;
        this.out = out;
    }

    public static void main(String[] args) throws Exception
    {
        if (args.length < 3)
        {
            System.err.println("usage: CommitLogDump SCHEMA KEYSPACE SEGMENT...");
            System.exit(2);
        }
        DatabaseDescriptor.toolInitialization();
        Schemas.load(Files.readString(Path.of(args[0])));
        try (PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false, "UTF-8"))
        {
            CommitLogDump dump = new CommitLogDump(args[1], out);
            CommitLogReader reader = new CommitLogReader();
            for (int i = 2; i < args.length; i++)
                dump.read(reader, args[i]);
        }
        // Something in Cassandra may have started threads that would keep the process alive.
        System.exit(0);
    }

    /** Reads one segment; org.apache.cassandra.io.util.File took the place of java.io.File in 4.1. */
    private void read(CommitLogReader reader, String path) throws Exception
    {
        for (Method m : CommitLogReader.class.getMethods())
        {
            Class<?>[] types = m.getParameterTypes();
            if (!m.getName().equals("readCommitLogSegment") || types.length != 3 || types[2] != boolean.class)
                continue;
            Constructor<?> file = types[1].getConstructor(String.class);
            m.invoke(reader, this, file.newInstance(path), false);
            if (failure != null)
                throw failure;
            return;
        }
        throw new NoSuchMethodException("CommitLogReader.readCommitLogSegment(handler, file, boolean)");
    }

    @Override
    public boolean shouldSkipSegmentOnError(CommitLogReadException e) throws IOException
    {
        throw e;
    }

    @Override
    public void handleUnrecoverableError(CommitLogReadException e) throws IOException
    {
        throw e;
    }

    @Override
    public void handleMutation(Mutation m, int size, int entryLocation, CommitLogDescriptor desc)
    {
        if (!m.getKeyspaceName().equals(keyspace))
            return;
        int i = 0;
        int n = m.getPartitionUpdates().size();
        // The map of a mutation that was read keeps the order of the updates in the log.
        for (PartitionUpdate update : m.getPartitionUpdates())
        {
            line.setLength(0);
            line.append("{\"seg\":").append(desc.id).append(",\"pos\":").append(entryLocation).append(",\"size\":").append(size);
            line.append(",\"i\":").append(i++).append(",\"n\":").append(n);
            update(update);
            line.append('\n');
            try
            {
                out.write(line.toString().getBytes(StandardCharsets.UTF_8));
            }
            catch (IOException e)
            {
                throw new UncheckedIOException(e);
            }
        }
    }

    private void update(PartitionUpdate update)
    {
        line.append(",\"ks\":");
        string(update.metadata().keyspace);
        line.append(",\"table\":");
        string(update.metadata().name);
        line.append(",\"id\":");
        string(update.metadata().id.asUUID().toString());
        line.append(",\"pk\":");
        hex(update.partitionKey().getKey());
        DeletionTime partition = update.deletionInfo().getPartitionDeletion();
        if (exists(partition))
            deletion(",\"del\":", partition);
        Row statics = update.staticRow();
        if (!isEmpty(statics))
        {
            line.append(",\"static\":{");
            cells(statics);
            line.append('}');
        }
        line.append(",\"rows\":[");
        int start = line.length();
        try (UnfilteredRowIterator it = update.unfilteredIterator())
        {
            while (it.hasNext())
            {
                Unfiltered u = it.next();
                if (u.isRow() && isEmpty((Row) u))
                    continue;
                if (line.length() > start)
                    line.append(',');
                if (u.isRow())
                    row((Row) u);
                else
                    marker((RangeTombstoneMarker) u);
            }
        }
        line.append("]}");
    }

    private void row(Row row)
    {
        line.append("{\"ck\":");
        clustering(row.clustering());
        LivenessInfo live = row.primaryKeyLivenessInfo();
        if (!live.isEmpty())
        {
            line.append(",\"live\":{\"ts\":").append(live.timestamp());
            if (live.ttl() != LivenessInfo.NO_TTL)
                line.append(",\"ttl\":").append(live.ttl()).append(",\"exp\":").append(localTime(live.localExpirationTime()));
            line.append('}');
        }
        if (exists(row.deletion().time()))
        {
            deletion(",\"del\":", row.deletion().time());
            if (row.deletion().isShadowable())
                line.insert(line.length() - 1, ",\"shadowable\":1");
        }
        line.append(',');
        cells(row);
        line.append('}');
    }

    private void cells(Row row)
    {
        line.append("\"cells\":[");
        boolean first = true;
        for (Cell<?> cell : row.cells())
        {
            if (!first)
                line.append(',');
            first = false;
            cell(cell);
        }
        line.append(']');
        first = true;
        for (ColumnData data : row)
        {
            if (!data.column().isComplex() || !exists(((ComplexColumnData) data).complexDeletion()))
                continue;
            DeletionTime deletion = ((ComplexColumnData) data).complexDeletion();
            line.append(first ? ",\"cdel\":[" : ",");
            first = false;
            line.append("{\"c\":");
            string(data.column().name.toString());
            line.append(",\"ts\":").append(deletion.markedForDeleteAt());
            line.append(",\"ldt\":").append(localTime(deletion.localDeletionTime())).append('}');
        }
        if (!first)
            line.append(']');
    }

    private void cell(Cell<?> cell)
    {
        line.append("{\"c\":");
        string(cell.column().name.toString());
        if (cell.path() != null)
        {
            line.append(",\"p\":");
            hex(cell.path().get(0));
        }
        line.append(",\"ts\":").append(cell.timestamp());
        if (cell.isTombstone())
        {
            line.append(",\"ldt\":").append(localTime(cell.localDeletionTime())).append(",\"x\":1}");
            return;
        }
        if (cell.isExpiring())
            line.append(",\"ttl\":").append(cell.ttl()).append(",\"ldt\":").append(localTime(cell.localDeletionTime()));
        line.append(",\"v\":");
        hex(cell.buffer());
        line.append('}');
    }

    private void marker(RangeTombstoneMarker marker)
    {
        line.append("{\"rt\":");
        string(marker.clustering().kind().name());
        line.append(",\"ck\":");
        clustering(marker.clustering());
        if (marker.isBoundary())
        {
            deletion(",\"end\":", marker.closeDeletionTime(false));
            deletion(",\"start\":", marker.openDeletionTime(false));
        }
        else if (marker.isOpen(false))
        {
            deletion(",\"del\":", marker.openDeletionTime(false));
        }
        else
        {
            deletion(",\"del\":", marker.closeDeletionTime(false));
        }
        line.append('}');
    }

    private void clustering(ClusteringPrefix<?> prefix)
    {
        line.append('[');
        for (int i = 0; i < prefix.size(); i++)
        {
            if (i > 0)
                line.append(',');
            ByteBuffer value = prefix.bufferAt(i);
            if (value == null)
                line.append("null");
            else
                hex(value);
        }
        line.append(']');
    }

    private void deletion(String key, DeletionTime d)
    {
        line.append(key).append("{\"ts\":").append(d.markedForDeleteAt());
        line.append(",\"ldt\":").append(localTime(d.localDeletionTime())).append('}');
    }

    /**
     * Whether a deletion deletes anything. Cassandra writes one at the least timestamp for a collection that is
     * assigned at the next to least; it covers nothing, since nothing can be written there, and it is not printed.
     */
    private static boolean exists(DeletionTime d)
    {
        return d.markedForDeleteAt() != Long.MIN_VALUE;
    }

    /** Whether nothing of a row would be printed but its clustering. */
    private static boolean isEmpty(Row row)
    {
        if (!row.primaryKeyLivenessInfo().isEmpty() || exists(row.deletion().time()))
            return false;
        for (ColumnData data : row)
        {
            if (!data.column().isComplex())
                return false;
            ComplexColumnData complex = (ComplexColumnData) data;
            if (complex.cellsCount() > 0 || exists(complex.complexDeletion()))
                return false;
        }
        return true;
    }

    /** A local deletion time or expiry, with the "none" of 5.0 in place of the one of the version that runs. */
    private static long localTime(long seconds)
    {
        return seconds == Cell.NO_DELETION_TIME ? Long.MAX_VALUE : seconds;
    }

    private static final char[] DIGITS = "0123456789abcdef".toCharArray();

    private void hex(ByteBuffer b)
    {
        line.append('"');
        for (int i = b.position(); i < b.limit(); i++)
            line.append(DIGITS[b.get(i) >> 4 & 15]).append(DIGITS[b.get(i) & 15]);
        line.append('"');
    }

    /** A string as Go's encoding/json writes it. */
    private void string(String s)
    {
        line.append('"');
        for (int i = 0; i < s.length(); i++)
        {
            char c = s.charAt(i);
            switch (c)
            {
                case '"': line.append("\\\""); break;
                case '\\': line.append("\\\\"); break;
                case '\b': line.append("\\b"); break;
                case '\f': line.append("\\f"); break;
                case '\n': line.append("\\n"); break;
                case '\r': line.append("\\r"); break;
                case '\t': line.append("\\t"); break;
                case '<': case '>': case '&': case '\u2028': case '\u2029':
                    line.append(String.format("\\u%04x", (int) c));
                    break;
                default:
                    if (c < ' ')
                        line.append(String.format("\\u%04x", (int) c));
                    else
                        line.append(c);
            }
        }
        line.append('"');
    }
}
