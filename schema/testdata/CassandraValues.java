import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URLDecoder;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.cassandra.db.context.CounterContext;
import org.apache.cassandra.db.marshal.AbstractType;
import org.apache.cassandra.db.marshal.ByteBufferAccessor;
import org.apache.cassandra.schema.CQLTypeParser;
import org.apache.cassandra.schema.Types;
import org.apache.cassandra.transport.ProtocolVersion;
import org.apache.cassandra.utils.ByteBufferUtil;

/**
 * Asks Cassandra's own classes what they make of values. It wrote the text files of this folder with the jars of
 * Cassandra 4.0.17, 4.1.10 and 5.0.6, which agree on them:
 *
 *   values.txt, order.txt   native types
 *   nested.txt              collections, tuples, user types and counters, but for sets and maps of no bytes, which only 5.0
 *                           refuses, and contexts of counters that are 8 bytes
 *   vectors.txt             the same with vectors, which only 5.0 has
 *   nested-order.txt        the order of values of nested.txt and vectors.txt, by 5.0
 *
 * The first two words of a line it reads are a type (without spaces in it) and a value in hexadecimal digits, or - for
 * none. The type "context" stands for the contexts of counters. A line "udt NAME FIELD:TYPE ..." defines a user type,
 * with names as URLs have them. Lines that begin with # are left out. To write the files again, or others:
 *
 *   java -ea -cp 'cassandra/*' CassandraValues.java values < values.txt
 *   java -ea -cp 'cassandra/*' CassandraValues.java order < values.txt
 */
public class CassandraValues
{
    private static final Types.RawBuilder userTypes = Types.rawBuilder("k");

    public static void main(String[] args) throws Exception
    {
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        Map<String, List<String>> byType = new LinkedHashMap<>();
        for (String line = in.readLine(); line != null; line = in.readLine())
        {
            if (line.startsWith("#"))
                continue;
            String[] words = line.split(" ");
            if (words[0].equals("udt"))
            {
                define(words);
                out.println(line);
            }
            else
                byType.computeIfAbsent(words[0], k -> new ArrayList<>()).add(words[1]);
        }
        Types types = userTypes.build();
        for (Map.Entry<String, List<String>> entry : byType.entrySet())
        {
            String name = entry.getKey();
            if (name.equals("context"))
            {
                for (String hex : entry.getValue())
                    out.println(name + " " + hex + " " + context(bytes(hex)));
                continue;
            }
            AbstractType<?> type = CQLTypeParser.parse("k", name, types);
            if (args[0].equals("values"))
                values(out, name, type, entry.getValue());
            else
                order(out, name, type, entry.getValue());
        }
        out.flush();
        System.exit(0);
    }

    private static void define(String[] words) throws Exception
    {
        List<String> fields = new ArrayList<>(), types = new ArrayList<>();
        for (int i = 2; i < words.length; i++)
        {
            String[] field = words[i].split(":", 2);
            fields.add(URLDecoder.decode(field[0], "UTF-8"));
            types.add(field[1]);
        }
        userTypes.add(URLDecoder.decode(words[1], "UTF-8"), fields, types);
    }

    private static void values(PrintStream out, String name, AbstractType<?> type, List<String> values)
    {
        for (String hex : values)
        {
            String valid = "ok", text = "!";
            try
            {
                type.validate(bytes(hex));
            }
            catch (Throwable e)
            {
                valid = "refused";
            }
            try
            {
                text = type.toJSONString(bytes(hex), ProtocolVersion.V4);
            }
            catch (Throwable e)
            {
                // No node prints it.
            }
            out.println(name + " " + hex + " " + valid + (valid.equals("ok") ? " " + text : ""));
        }
    }

    private static String context(ByteBuffer value)
    {
        try
        {
            CounterContext.instance().validateContext(value, ByteBufferAccessor.instance);
            return "ok " + CounterContext.instance().total(value, ByteBufferAccessor.instance);
        }
        catch (Throwable e)
        {
            return "refused";
        }
    }

    private static void order(PrintStream out, String name, AbstractType<?> type, List<String> values)
    {
        values.sort((a, b) -> type.compare(bytes(a), bytes(b)));
        for (int i = 0; i < values.size(); i++)
        {
            boolean equal = i > 0 && type.compare(bytes(values.get(i - 1)), bytes(values.get(i))) == 0;
            out.println(name + " " + values.get(i) + " " + (equal ? "=" : "<"));
        }
    }

    private static ByteBuffer bytes(String hex)
    {
        return ByteBufferUtil.hexToBytes(hex.equals("-") ? "" : hex);
    }
}
