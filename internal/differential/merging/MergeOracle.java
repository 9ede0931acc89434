import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.db.Clustering;
import org.apache.cassandra.db.DeletionTime;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.context.CounterContext;
import org.apache.cassandra.db.marshal.AbstractType;
import org.apache.cassandra.db.marshal.Int32Type;
import org.apache.cassandra.db.marshal.UTF8Type;
import org.apache.cassandra.db.marshal.UserType;
import org.apache.cassandra.db.rows.BTreeRow;
import org.apache.cassandra.db.rows.BufferCell;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.CellPath;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.db.rows.Rows;
import org.apache.cassandra.schema.CQLTypeParser;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.Types;
import org.apache.cassandra.utils.ByteBufferUtil;

/**
 * Merges rows and compares values as Cassandra does, by its own classes. Each line of the input is a question, and each line of the
 * output that begins with "= " the answer to the next.
 *
 * <pre>
 * column NAME TYPE                 a column, for the rows behind it; the user type "place" has the fields a int, b text, c int
 * compare TYPE HEX HEX             -1, 0 or 1, as the comparator of the type has it; "none" if it cannot read one of them
 * merge ROW...                     each row merged into what those before it have left, by Row.Merger
 * </pre>
 *
 * A row is words: R begins it, L TIMESTAMP TTL EXPIRY is its liveness, D TIMESTAMP LOCAL SHADOWABLE its deletion, E COLUMN TIMESTAMP LOCAL the
 * deletion of the elements of a column, C COLUMN TIMESTAMP TTL LOCAL PATH VALUE a cell. P TIMESTAMP LOCAL is a deletion of the partition,
 * from this row on. PATH and VALUE are hexadecimal digits behind an x, or - for none: a cell without value is a tombstone.
 *
 * <p>The answer is what lives after each row, in the same words, with a semicolon before each. Where Rows.merge, of what is there
 * and the row, does not leave the same, its words stand behind an exclamation mark.
 */
public final class MergeOracle
{
    private final Map<String, ColumnMetadata> columns = new HashMap<>();
    private final Map<String, AbstractType<?>> types = new HashMap<>();
    private static final Clustering<?> CLUSTERING = Clustering.make(Int32Type.instance.decompose(1));
    private static final Row NOTHING = BTreeRow.emptyRow(CLUSTERING);
    private static final Method LIVENESS = method(LivenessInfo.class, "withExpirationTime", 3);
    private static final Constructor<?> CELL = cellConstructor();

    public static void main(String[] args) throws Exception
    {
        DatabaseDescriptor.toolInitialization();
        MergeOracle oracle = new MergeOracle();
        PrintStream out = new PrintStream(new java.io.BufferedOutputStream(System.out, 1 << 16), false, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine())
        {
            String[] words = line.split("\t");
            switch (words[0])
            {
                case "column":
                    oracle.columns.put(words[1], ColumnMetadata.regularColumn("ks", "t", words[1], oracle.type(words[2])));
                    break;
                case "compare":
                    out.println("= " + oracle.compare(words[1], bytes(words[2]), bytes(words[3])));
                    break;
                case "merge":
                    out.println("= " + oracle.merge(words[1].split(" ")));
                    break;
                default:
                    throw new IllegalArgumentException(line);
            }
        }
        out.flush();
        // Something in Cassandra may have started threads that would keep the process alive.
        System.exit(0);
    }

    private AbstractType<?> type(String cql)
    {
        return types.computeIfAbsent(cql, name -> {
            if (!name.equals("place"))
                return CQLTypeParser.parse("ks", name, Types.none());
            List<AbstractType<?>> fields = new ArrayList<>(List.of(Int32Type.instance, UTF8Type.instance, Int32Type.instance));
            List<org.apache.cassandra.cql3.FieldIdentifier> names = new ArrayList<>();
            for (String field : List.of("a", "b", "c"))
                names.add(org.apache.cassandra.cql3.FieldIdentifier.forUnquoted(field));
            return new UserType("ks", ByteBufferUtil.bytes("place"), names, fields, true);
        });
    }

    private String compare(String type, ByteBuffer a, ByteBuffer b)
    {
        try
        {
            return String.valueOf(Integer.signum(type(type).compare(a, b)));
        }
        catch (NumberFormatException e)
        {
            return "none";
        }
    }

    private String merge(String[] words) throws Exception
    {
        StringBuilder answer = new StringBuilder();
        DeletionTime active = DeletionTime.LIVE;
        Row merged = null;
        for (int i = 0; i < words.length; )
        {
            if (!words[i++].equals("R"))
                throw new IllegalArgumentException(String.join(" ", words));
            Row.Builder builder = BTreeRow.unsortedBuilder();
            builder.newRow(CLUSTERING);
            // Last, since the builder leaves out what is added after a deletion that covers it, also if a liveness makes that void.
            Row.Deletion deletion = Row.Deletion.LIVE;
            for (; i < words.length && !words[i].equals("R"); )
            {
                switch (words[i++])
                {
                    case "L":
                        builder.addPrimaryKeyLivenessInfo((LivenessInfo) invoke(LIVENESS, words[i], words[i + 1], words[i + 2]));
                        i += 3;
                        break;
                    case "D":
                        DeletionTime time = deletion(words[i], words[i + 1]);
                        deletion = words[i + 2].equals("1") ? Row.Deletion.shadowable(time) : Row.Deletion.regular(time);
                        i += 3;
                        break;
                    case "P":
                        DeletionTime partition = deletion(words[i], words[i + 1]);
                        if (partition.supersedes(active))
                            active = partition;
                        i += 2;
                        break;
                    case "E":
                        builder.addComplexDeletion(columns.get(words[i]), deletion(words[i + 1], words[i + 2]));
                        i += 3;
                        break;
                    case "C":
                        builder.addCell(cell(words, i));
                        i += 6;
                        break;
                    default:
                        throw new IllegalArgumentException(words[i - 1]);
                }
            }
            builder.addRowDeletion(deletion);
            // A row may have what its own deletions cover, and Row.Merger leaves one that comes alone as it is.
            Row row = merge(builder.build(), NOTHING, DeletionTime.LIVE);
            Row before = merged;
            merged = merge(merged == null ? NOTHING : merged, row == null ? NOTHING : row, active);
            String text = text(merged);
            answer.append(';').append(text);
            if (before != null && row != null && active.isLive())
            {
                String other = text(Rows.merge(before, row));
                if (!other.equals(text))
                    answer.append('!').append(other);
            }
        }
        return answer.toString();
    }

    /** Null if nothing is left. */
    private static Row merge(Row a, Row b, DeletionTime active)
    {
        Row.Merger merger = new Row.Merger(2, true);
        merger.add(0, a);
        merger.add(1, b);
        return merger.merge(active);
    }

    private Cell<?> cell(String[] words, int i) throws Exception
    {
        ByteBuffer path = bytes(words[i + 4]);
        ByteBuffer value = bytes(words[i + 5]);
        Object[] arguments = { columns.get(words[i]), Long.parseLong(words[i + 1]), Integer.parseInt(words[i + 2]), null,
                               value == null ? ByteBufferUtil.EMPTY_BYTE_BUFFER : value, path == null ? null : CellPath.create(path) };
        arguments[3] = number(CELL.getParameterTypes()[3], words[i + 3]);
        return (Cell<?>) CELL.newInstance(arguments);
    }

    /** 5.0 has one for local deletion times that are long, beside the one that 4.0 and 4.1 have. */
    private static Constructor<?> cellConstructor()
    {
        Constructor<?>[] all = BufferCell.class.getConstructors();
        for (Constructor<?> c : all)
            if (c.getParameterTypes()[3] == long.class)
                return c;
        return all[0];
    }

    /** 5.0 has a method for what 4.0 and 4.1 have a constructor for. */
    private static DeletionTime deletion(String timestamp, String local) throws Exception
    {
        for (Method m : DeletionTime.class.getMethods())
            if (m.getName().equals("build"))
                return (DeletionTime) invoke(m, timestamp, local);
        Constructor<?> c = DeletionTime.class.getConstructor(long.class, int.class);
        return (DeletionTime) c.newInstance(Long.parseLong(timestamp), Integer.parseInt(local));
    }

    private static Method method(Class<?> type, String name, int arguments)
    {
        for (Method m : type.getMethods())
            if (m.getName().equals(name) && m.getParameterCount() == arguments)
                return m;
        throw new IllegalStateException(type + "." + name);
    }

    /** Times in seconds are int before 5.0, and long from there on. */
    private static Object number(Class<?> type, String text)
    {
        return type == int.class ? (Object) Integer.parseInt(text) : (Object) Long.parseLong(text);
    }

    private static Object invoke(Method m, String... words) throws Exception
    {
        Object[] arguments = new Object[words.length];
        for (int i = 0; i < words.length; i++)
            arguments[i] = number(m.getParameterTypes()[i], words[i]);
        return m.invoke(null, arguments);
    }

    private static ByteBuffer bytes(String word)
    {
        return word.equals("-") ? null : ByteBufferUtil.hexToBytes(word.substring(1));
    }

    /** The words of what lives. */
    private String text(Row row)
    {
        StringBuilder b = new StringBuilder();
        if (row == null)
            return "";
        LivenessInfo live = row.primaryKeyLivenessInfo();
        if (!live.isEmpty() && live.ttl() != LivenessInfo.EXPIRED_LIVENESS_TTL)
            b.append(" L ").append(live.timestamp()).append(' ').append(live.ttl()).append(' ').append(live.localExpirationTime());
        for (Cell<?> c : row.cells())
        {
            if (c.isTombstone())
                continue;
            b.append(" C ").append(c.column().name).append(' ').append(c.timestamp()).append(' ').append(c.ttl());
            b.append(' ').append(c.localDeletionTime()).append(' ');
            b.append(c.path() == null ? "-" : "x" + ByteBufferUtil.bytesToHex(c.path().get(0))).append(' ');
            b.append('x').append(ByteBufferUtil.bytesToHex(c.buffer()));
            if (c.column().isCounterColumn())
                b.append('=').append(CounterContext.instance().total(c));
        }
        return b.toString();
    }
}
