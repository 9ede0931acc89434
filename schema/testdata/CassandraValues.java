import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.cassandra.cql3.CQL3Type;
import org.apache.cassandra.db.marshal.AbstractType;
import org.apache.cassandra.transport.ProtocolVersion;
import org.apache.cassandra.utils.ByteBufferUtil;

/**
 * Asks Cassandra's own classes what they make of values: it wrote values.txt and order.txt of this folder, with the jars
 * of Cassandra 4.1.10 and of 5.0.6, which agree; so does 4.0.17, as far as its classes load outside of a node.
 *
 * The first two words of a line it reads are a type and a value in hexadecimal digits, or - for none. To write the files
 * again, or others:
 *
 *   java -ea -cp 'cassandra/*' CassandraValues.java values < values.txt
 *   java -ea -cp 'cassandra/*' CassandraValues.java order < values.txt
 */
public class CassandraValues
{
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
            byType.computeIfAbsent(words[0], k -> new ArrayList<>()).add(words[1]);
        }
        for (Map.Entry<String, List<String>> entry : byType.entrySet())
        {
            AbstractType<?> type = CQL3Type.Native.valueOf(entry.getKey().toUpperCase()).getType();
            if (args[0].equals("values"))
                values(out, entry.getKey(), type, entry.getValue());
            else
                order(out, entry.getKey(), type, entry.getValue());
        }
        out.flush();
        System.exit(0);
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
